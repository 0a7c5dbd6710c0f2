# SPDX-License-Identifier: Apache-2.0
"""Which matrix products are worth quantising: those of transformers.

A product of one row reads each weight once, so int8 hardly makes it faster; that is what a fully
connected layer at the end of a convolutional network does. A transformer multiplies a row for
each patch of the image. Products of two activations, in the attention, stay float.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx

from perception_node.engines.onnx_graph import attribute

if TYPE_CHECKING:
    from onnx import ModelProto

MATRIX_PRODUCTS = ("Gemm", "MatMul")
AXES_OF_WEIGHTS = 2


def matrix_products(model: ModelProto) -> list[str]:
    """Return the names of the matrix products of a model to quantise, in their order.

    The model knows its shapes.
    """
    weights = {each.name for each in model.graph.initializer if len(each.dims) == AXES_OF_WEIGHTS}
    rows = {each.name: _rows(each) for each in (*model.graph.value_info, *model.graph.input)}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MATRIX_PRODUCTS
        and node.input[1] in weights
        and not attribute(node, "transA", 0)
        and rows.get(node.input[0], 0) > 1
    ]


def other_products(model: ModelProto) -> list[str]:
    """Return the names of the matrix products that stay float."""
    wanted = set(matrix_products(model))
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MATRIX_PRODUCTS and node.name not in wanted
    ]


def forget_others(model: ModelProto) -> None:
    """Forget the shapes of tensors that are never quantised, so that they are not measured.

    A transformer has thousands; what is left enters its layers, or leaves its convolutions.
    """
    wanted = set(matrix_products(model))
    layers = [n for n in model.graph.node if n.name in wanted or n.op_type == "Conv"]
    kept = {node.input[0] for node in layers}
    kept |= {node.output[0] for node in layers if node.op_type == "Conv"}
    shapes = [each for each in model.graph.value_info if each.name in kept]
    shapes = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in shapes]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)


def _rows(value: onnx.ValueInfoProto) -> int:
    """Return how many rows of channels a tensor has; 0 if that is not known."""
    return math.prod(axis.dim_value for axis in value.type.tensor_type.shape.dim[:-1])
