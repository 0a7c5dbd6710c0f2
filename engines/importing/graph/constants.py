# SPDX-License-Identifier: Apache-2.0
"""In the confined child: values in a graph that do not depend on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto, TensorProto


def constant_of(graph: GraphProto, name: str) -> NDArray[Any] | None:
    """Return the value of a weight or a Constant node; None where the tensor is computed."""
    for holder, tensor in constants(graph):
        if holder == name:
            return read(tensor)
    return None


def read(tensor: TensorProto) -> NDArray[Any]:
    """Return the value of a tensor, which may lie in the file ``WEIGHTS`` of this folder."""
    value: NDArray[Any] = numpy_helper.to_array(tensor, base_dir=".")
    return value


def constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the names and tensors of all weights and Constant nodes, to be read or changed."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t
