# SPDX-License-Identifier: Apache-2.0
"""What our changes of ONNX graphs share."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray


PER_CHANNEL_FROM = 13  # the opset from which on scales may be per channel


def opset_version(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return int(max(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}))


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those it reads from, as ONNX demands; converters append theirs.

    Raises:
        graphlib.CycleError: two nodes read from each other.

    """
    nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    makers = {
        index: [maker[name] for name in _in_order(node) if name in maker]
        for index, node in enumerate(nodes)
    }
    del graph.node[:]
    graph.node.extend(nodes[index] for index in TopologicalSorter(makers).static_order())


def _in_order(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads, always in the same order."""
    return [*node.input, *sorted(reads(node).difference(node.input))]


def is_sorted(graph: onnx.GraphProto) -> bool:
    """Tell whether every node comes behind those it reads from."""
    coming = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if coming & reads(node):
            return False
        coming.difference_update(node.output)
    return True


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the names of all tensors that a node and the graphs in it read."""
    inner = (name for graph in subgraphs(node) for each in all_nodes(graph) for name in each.input)
    results = (value.name for graph in subgraphs(node) for value in graph.output)
    return {*node.input, *inner, *results} - {""}


def unused_name(graph: onnx.GraphProto, wish: str) -> str:
    """Return a name that no tensor of the graph has."""
    taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in all_nodes(graph):
        taken.update(node.input, node.output)
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph or a function, and of every graph inside it."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an attribute that is an integer."""
    return next((int(each.i) for each in node.attribute if each.name == name), default)


class Constants:
    """The constants of a graph: its initializers and its Constant nodes, also behind Identity."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Find them; none is unpacked before somebody asks for it."""
        self._tensors = {each.name: each for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                found = [each.t for each in node.attribute if each.name == "value"]
                self._tensors.update(zip(node.output, found, strict=False))
            elif node.op_type == "Identity" and node.input[0] in self._tensors:
                self._tensors[node.output[0]] = self._tensors[node.input[0]]

    def __contains__(self, name: object) -> bool:
        """Tell whether a tensor is constant."""
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a constant."""
        return tuple(self._tensors[name].dims)

    def element(self, name: str) -> int:
        """Return the element type of a constant, a value of ``TensorProto.DataType``."""
        return int(self._tensors[name].data_type)

    def value(self, name: str) -> NDArray[Any]:
        """Return the numbers of a constant."""
        from onnx import numpy_helper  # noqa: PLC0415 - this module loads without onnx

        return numpy_helper.to_array(self._tensors[name])
