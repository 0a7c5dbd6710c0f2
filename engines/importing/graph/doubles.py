# SPDX-License-Identifier: Apache-2.0
"""In the confined child: let a graph compute in float32 where it computes in float64.

No GPU of a robot is quick in float64, and TensorRT has no such type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import AttributeProto, TensorProto, TypeProto, numpy_helper

from perception_node.engines.importing.graph.constants import read
from perception_node.engines.onnx_graph import all_nodes, subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto

TYPES = {"to", "dtype"}  # attributes that name an element type


def has_doubles(graph: GraphProto) -> bool:
    """Tell whether something in the graph is said to be float64."""
    return any(next(found, None) is not None for found in _doubles(graph))


def make_single(graph: GraphProto) -> None:
    """Make every float64 in the graph float32."""
    values, tensors, names = map(list, _doubles(graph))
    for value in values:
        value.elem_type = TensorProto.FLOAT
    for tensor in tensors:
        with np.errstate(over="ignore"):  # the scores then differ, or are not finite
            array = read(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for attribute in names:
        attribute.i = TensorProto.FLOAT


def _doubles(graph: GraphProto) -> tuple[Iterator[Any], ...]:
    """Return the values, the tensors and the names of types that say float64."""
    return (
        (value for value in _values(graph) if value.elem_type == TensorProto.DOUBLE),
        (tensor for tensor in _tensors(graph) if tensor.data_type == TensorProto.DOUBLE),
        (name for name in _type_names(graph) if name.i == TensorProto.DOUBLE),
    )


def _values(graph: GraphProto) -> Iterator[TypeProto.Tensor]:
    """Yield the types of all inputs and outputs."""
    for each in _graphs(graph):
        for value in (*each.input, *each.output, *each.value_info):
            if value.type.HasField("tensor_type"):
                yield value.type.tensor_type


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    for each in _graphs(graph):
        yield from each.initializer
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _type_names(graph: GraphProto) -> Iterator[AttributeProto]:
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if attribute.name in TYPES and attribute.type == AttributeProto.INT:
                yield attribute
