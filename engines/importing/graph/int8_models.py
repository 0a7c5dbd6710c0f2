# SPDX-License-Identifier: Apache-2.0
"""In the confined child: what a bundle gets of a model that is quantised already."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from perception_node.engines.importing.graph.dequantized import (
    DEQUANTIZE,
    DYNAMIC,
    INTEGER,
    QUANTIZE,
    Floats,
    to_float,
)
from perception_node.engines.importing.graph.quantized import to_pairs
from perception_node.engines.multiplications import int8_share
from perception_node.engines.onnx_graph import Constants, attribute
from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import GraphProto, ModelProto, ValueInfoProto

MAX_SHOWN = 80  # characters of a name


def with_weights(model: ModelProto) -> ModelProto:
    """Return a model with the weights in it that lie beside it in the current folder."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.load_external_data_for_model(copy, ".")
    return copy


def split_quantized(
    path: Path, model: ModelProto, parent: bytes | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a bundle gets of a quantised model in the form that bundles have.

    Args:
        path: for errors.
        model: what it is.
        parent: the float model that it was made of, in the same form, if somebody has given it.

    Returns:
        The fields of ``model.bundle.Quantization`` but the form. As blobs the float32 ``model``,
        ``cpu`` for ONNX Runtime, and ``tensorrt`` where TensorRT can read it.

    Raises:
        ConversionError: its float model cannot be worked out, or the parent is another model's.

    """
    with said_of(path):
        return _split(path, model, parent)


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Refuse a model whose quantisers do not fit what they are for, whatever fails on them.

    Raises:
        ConversionError: something failed.

    """
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        problem = f"its quantised layers do not fit together: {first_line(error)}"
        raise ConversionError(path, f"{problem}; export it again") from error


def _split(
    path: Path, model: ModelProto, parent: bytes | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    pairs = to_pairs(path, model)
    if parent is None:
        reference = to_float(path, pairs)
    else:
        reference = onnx.load_model_from_string(parent)
        rename_ends(path, reference, model)
    problem = why_not_tensorrt(pairs)
    blobs = {"model": reference, "cpu": model}
    if not problem:
        blobs["tensorrt"] = for_tensorrt(path, pairs)
    about = {"int8_share": round(int8_share(pairs), 4), "no_tensorrt": problem}
    return about, {
        name: each.SerializeToString(deterministic=True) for name, each in blobs.items()
    }


def rename_ends(path: Path, model: ModelProto, like: ModelProto) -> None:
    """Give a model the names of another one's input and output.

    Raises:
        ConversionError: the two take or give tensors of other shapes.

    """
    for kind in ("input", "output"):
        (value,), (wanted,) = getattr(model.graph, kind), getattr(like.graph, kind)
        theirs, ours = _shape(value), _shape(wanted)
        if theirs != ours:
            problem = f"its {kind} is {ours}, that of --float-parent {theirs}"
            raise ConversionError(path, f"{problem}; give the float model it was made of")
        _rename(model.graph, wanted.name, f"{wanted.name}_of_parent")
        _rename(model.graph, value.name, wanted.name)


def _shape(value: ValueInfoProto) -> list[int]:
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _rename(graph: GraphProto, name: str, new: str) -> None:
    """Rename a tensor, in the graph and in those that its nodes hold."""
    for each in (*graph.input, *graph.output, *graph.initializer):
        each.name = new if each.name == name else each.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if each == name else each for each in names]
        for part in node.attribute:
            for inner in (part.g, *part.graphs):
                _rename(inner, name, new)


def why_not_tensorrt(model: ModelProto) -> str:
    """Return in words what TensorRT would refuse in a model of Q/DQ pairs; empty if nothing.

    TensorRT has signed int8 with zero point 0, and constant scales.
    """
    constants = Constants(model.graph)
    for node in model.graph.node:
        name = ascii(node.input[0])[1:-1][:MAX_SHOWN] if node.input else ""
        if node.op_type in {DYNAMIC, *INTEGER}:
            return "its scales are computed for each image"
        if node.op_type not in {QUANTIZE, DEQUANTIZE}:
            continue
        zero = "".join(node.input[2:])
        if node.input[1] not in constants or (zero and zero not in constants):
            return f"{name} has a scale that is no constant"
        if zero and constants.value(zero).any():
            return f"{name} is quantised with a zero point (asymmetric)"
        is_signed = attribute(node, "output_dtype", TensorProto.UINT8) == TensorProto.INT8
        if node.op_type == QUANTIZE and not zero and not is_signed:
            return f"{name} is quantised to uint8"
        if zero and constants.element(zero) == TensorProto.UINT8:
            return f"{name} is quantised to uint8"
    return ""


def for_tensorrt(path: Path, model: ModelProto) -> ModelProto:
    """Return a symmetric model of Q/DQ pairs as TensorRT reads it.

    Weights are float with a pair of their own, which gives the same integers again; biases, which
    ONNX Runtime's quantiser makes int32, are float.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, constants = copy.graph, Constants(copy.graph)
    del graph.value_info[:]
    floats, nodes = Floats(path, graph), []
    for node in list(graph.node):
        if node.op_type == DEQUANTIZE and node.input[0] in constants:
            is_bias = constants.element(node.input[0]) == TensorProto.INT32
            value = floats.dequantize(node)
            if is_bias:
                node.op_type, node.input[:] = "Identity", [value]
                del node.attribute[:]
            else:
                quantized = f"{node.output[0]}_quantized"
                pair = helper.make_node(QUANTIZE, [value, *node.input[1:]], [quantized])
                pair.attribute.extend(node.attribute)
                nodes.append(pair)
                node.input[0] = quantized
        nodes.append(node)
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return copy
