# SPDX-License-Identifier: Apache-2.0
"""In the confined child: models that are quantised already, in whatever form.

There are four: pairs of QuantizeLinear and DequantizeLinear around float operators (ONNX Runtime,
ModelOpt, TAO, PT2E; Brevitas has a Clip between the two), operators that compute in integers
themselves (QLinearConv and the like, of ONNX Runtime also for others), activations quantised as
they come (dynamic), and weights alone. A bundle gets such a model as its int8 model, and what is
left of it without its quantisers as the float32 one, to compare with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from perception_node.engines.importing.graph.dequantized import (
    DEQUANTIZE,
    DYNAMIC,
    INTEGER,
    QUANTIZE,
    drop_unused_domains,
)
from perception_node.engines.onnx_graph import (
    PER_CHANNEL_FROM,
    Constants,
    attribute,
    opset_version,
)
from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto

RUNTIME_DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators
EIGHT_BITS = {TensorProto.INT8, TensorProto.UINT8}


class _Layout(NamedTuple):
    """Where an operator in integers has what: the float operator, and places of its inputs."""

    operator: str
    factors: int  # each is three inputs: values, scale, zero point
    result: int  # scale and zero point of the output
    bias: int | None = None


OPERATORS = {
    "QLinearConv": _Layout("Conv", 2, 6, bias=8),
    "QLinearMatMul": _Layout("MatMul", 2, 6),
    "QGemm": _Layout("Gemm", 2, 7, bias=6),
    "QLinearAdd": _Layout("Add", 2, 6),
    "QLinearMul": _Layout("Mul", 2, 6),
    "QLinearAveragePool": _Layout("AveragePool", 1, 3),
    "QLinearGlobalAveragePool": _Layout("GlobalAveragePool", 1, 3),
    "QLinearLeakyRelu": _Layout("LeakyRelu", 1, 3),
    "QLinearReduceMean": _Layout("ReduceMean", 1, 3),
    "QLinearSigmoid": _Layout("Sigmoid", 1, 3),
    "QLinearSoftmax": _Layout("Softmax", 1, 3),
}
CONCAT = "QLinearConcat"  # has the output's scale first
OWN_ATTRIBUTES = {"channels_last", "opset"}  # which the float operators do not have
# What may be in a model although it is not ONNX's own.
OF_RUNTIME = {*OPERATORS, CONCAT, QUANTIZE, DEQUANTIZE}


def quantized_form(path: Path, model: ModelProto) -> str:
    """Return in words how a model is quantised; empty for a float one.

    Raises:
        ConversionError: it is quantised to something else than 8-bit integers.

    """
    kinds = {node.op_type for node in model.graph.node}
    if kinds & {*OPERATORS, CONCAT}:
        form = "integer operators (QLinearConv and the like)"
    elif kinds & {DYNAMIC, *INTEGER}:
        form = "dynamic (scales are computed for each image)"
    elif QUANTIZE in kinds:
        form = "Q/DQ"
    elif DEQUANTIZE in kinds:
        form = "weights only"
    else:
        return ""
    _check_types(path, model.graph)
    return form


def _check_types(path: Path, graph: GraphProto) -> None:
    constants = Constants(graph)
    for node in graph.node:
        kinds = {constants.element(name) for name in node.input[2:] if name in constants}
        if node.op_type == DEQUANTIZE and node.input[0] in constants:
            kinds = {constants.element(node.input[0])}
        kinds |= {attribute(node, "output_dtype", 0)} - {0}
        allowed = EIGHT_BITS | ({TensorProto.INT32} if node.op_type == DEQUANTIZE else set())
        if node.op_type in {QUANTIZE, DEQUANTIZE} and kinds - allowed:
            name = TensorProto.DataType.Name(min(kinds - allowed)).lower()
            problem = f"it is quantised to {name}; export it as float32, or quantised to int8"
            raise ConversionError(path, problem)


def to_pairs(path: Path, model: ModelProto) -> ModelProto:
    """Return the model with Q/DQ pairs around float operators, where it has integer ones.

    Raises:
        ConversionError: one of its operators cannot be written so.

    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    constants = Constants(graph)
    nodes: list[NodeProto] = []
    for node in list(graph.node):
        if node.op_type == CONCAT:
            nodes += _concat_in_pairs(node)
        elif node.op_type in OPERATORS:
            nodes += _in_pairs(path, graph, constants, node)
        else:
            node.domain = "" if node.op_type in {QUANTIZE, DEQUANTIZE} else node.domain
            nodes.append(node)
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_domains(copy)
    return _of_today(path, copy)


def _of_today(path: Path, model: ModelProto) -> ModelProto:
    """Return a model in which scales may be per channel; those of the model zoo are older."""
    if opset_version(model) >= PER_CHANNEL_FROM:
        return model
    try:
        return version_converter.convert_version(model, PER_CHANNEL_FROM)
    except Exception as error:  # it documents none
        problem = f"it cannot be brought to opset {PER_CHANNEL_FROM}: {first_line(error)}"
        raise ConversionError(path, problem) from error


def _in_pairs(
    path: Path, graph: GraphProto, constants: Constants, node: NodeProto
) -> Iterable[NodeProto]:
    layout, prefix = OPERATORS[node.op_type], node.output[0]
    if attribute(node, "channels_last", 0):
        raise ConversionError(path, f"its operator {node.op_type} has channels last; use Q/DQ")
    inputs = list(node.input)
    nodes: list[NodeProto] = []
    names = [f"{prefix}_factor_{place}" for place in range(layout.factors)]
    for place, name in enumerate(names):
        axis = 0
        if place == 1 and layout.operator != "Conv":  # columns of the second matrix
            axis = 0 if attribute(node, "transB", 0) else 1
        triple = [each for each in inputs[3 * place : 3 * place + 3] if each]
        nodes.append(helper.make_node(DEQUANTIZE, triple, [name], axis=axis))
    if layout.bias is not None and len(inputs) > layout.bias and inputs[layout.bias]:
        if not all(inputs[place] in constants for place in (1, 4, layout.bias)):
            raise ConversionError(path, f"a scale of its {node.op_type} is no constant")
        scale = constants.value(inputs[1]) * constants.value(inputs[4]) * _alpha(node)
        bias = constants.value(inputs[layout.bias]).astype(np.float32) * scale
        names.append(f"{prefix}_bias")
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), names[-1]))
    result = [each for each in inputs[layout.result : layout.result + 2] if each]
    target = f"{prefix}_float" if result else prefix
    inner = helper.make_node(layout.operator, names, [target], name=node.name)
    inner.attribute.extend(each for each in node.attribute if each.name not in OWN_ATTRIBUTES)
    nodes.append(inner)
    if result:
        nodes.append(helper.make_node(QUANTIZE, [target, *result], [prefix]))
    return nodes


def _alpha(node: NodeProto) -> float:
    return next((each.f for each in node.attribute if each.name == "alpha"), 1.0)


def _concat_in_pairs(node: NodeProto) -> Iterable[NodeProto]:
    scale, zero, *triples = node.input
    prefix = node.output[0]
    parts = []
    for place in range(0, len(triples), 3):
        parts.append(f"{prefix}_part_{place}")
        yield helper.make_node(DEQUANTIZE, triples[place : place + 3], [parts[-1]])
    yield helper.make_node(
        "Concat", parts, [f"{prefix}_float"], axis=attribute(node, "axis", 0), name=node.name
    )
    yield helper.make_node(QUANTIZE, [f"{prefix}_float", scale, zero], [prefix])
