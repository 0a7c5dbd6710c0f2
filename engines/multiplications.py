# SPDX-License-Identifier: Apache-2.0
"""How much of a model's work is int8: the share of its multiplications.

Counted are those of convolutions and matrix products, which do nearly all of the work. Shapes
come from one run of the model, as many exports leave them open.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from perception_node.engines.onnx_graph import Constants, attribute
from perception_node.engines.onnxruntime.session import open_session

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

CONVOLUTIONS = {"Conv", "ConvTranspose", "ConvInteger"}
MATRIX_PRODUCTS = {"MatMul", "Gemm", "MatMulInteger"}
INTEGER_PRODUCTS = {"ConvInteger", "MatMulInteger"}
EIGHT_BITS = {TensorProto.INT8, TensorProto.UINT8}
MOVING = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

Shapes = dict[str, tuple[int, ...]]


def int8_share(model: ModelProto) -> float:
    """Return the part of a model's multiplications with two 8-bit factors, 0 to 1.

    The model has Q/DQ nodes, and an image of a fixed size as its only input. 0 if it multiplies
    nothing.
    """
    constants, shapes = Constants(model.graph), tensor_shapes(model)
    counts = multiplications(model.graph, constants, shapes)
    quantized = _from_eight_bits(model.graph, constants)
    nodes = [node for node in model.graph.node if node.output[0] in counts]
    found = sum(
        counts[node.output[0]]
        for node in nodes
        if node.op_type in INTEGER_PRODUCTS or quantized.issuperset(node.input[:2])
    )
    return found / max(sum(counts.values()), 1)


def multiplications(graph: GraphProto, constants: Constants, shapes: Shapes) -> dict[str, int]:
    """Return how many multiplications each convolution and matrix product takes, by its output."""

    def shape(name: str) -> tuple[int, ...]:
        return constants.shape(name) if name in constants else shapes[name]

    counts: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS | MATRIX_PRODUCTS:
            continue
        made = math.prod(shape(node.output[0]))
        if node.op_type == "ConvTranspose":
            made = math.prod(shape(node.input[0]))
        counts[node.output[0]] = made * _terms(node, shape(node.input[0]), shape(node.input[1]))
    return counts


def _terms(node: NodeProto, first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Return how many products are added up for each value."""
    if node.op_type in CONVOLUTIONS:
        return math.prod(second[1:])
    return first[0] if attribute(node, "transA", 0) else first[-1]


def tensor_shapes(model: ModelProto) -> Shapes:
    """Return the shapes of all that enters and leaves convolutions and matrix products."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    (image,) = model.graph.input
    size = [max(axis.dim_value, 1) for axis in image.type.tensor_type.shape.dim]
    constants = Constants(model.graph)
    wanted = {
        name
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS | MATRIX_PRODUCTS
        for name in [*node.input[:2], node.output[0]]
        if name not in constants and name != image.name
    }
    missing = wanted - {each.name for each in model.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(missing))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    values = np.zeros(size, np.float32)
    session = open_session(exposed.SerializeToString(), options, input_bytes=values.nbytes)
    names = sorted(wanted)
    found = session.run(names, {image.name: values}) if names else []
    shapes = {name: each.shape for name, each in zip(names, found, strict=True)}
    return {**shapes, image.name: tuple(size)}


def _from_eight_bits(graph: GraphProto, constants: Constants) -> set[str]:
    """Return the tensors that are 8-bit ones dequantised, also if they were moved since."""
    eight, found = set(), set()
    for node in graph.node:
        source, (target, *_) = (node.input[0] if node.input else ""), node.output
        if node.op_type == "QuantizeLinear":
            zero = "".join(node.input[2:])  # without one, it is uint8
            if zero not in constants or constants.element(zero) in EIGHT_BITS:
                eight.add(target)
        elif node.op_type == "DequantizeLinear":
            is_constant = source in constants and constants.element(source) in EIGHT_BITS
            if is_constant or source in eight:
                found.add(target)
        elif source in eight:
            eight.update(node.output)
        elif source in found and node.op_type in MOVING:
            found.add(target)
    return found
