# SPDX-License-Identifier: Apache-2.0
"""Models that are quantised already, as people's tools make them, and a small transformer."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.builders import LABELS, to_onnx
from tests.calibration_builders import SIDE, small_network
from tests.tensorrt_builders import Graph

SYMMETRIC = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
}
# What ONNX Runtime's quantiser is asked for, by a name of the case.
STATIC = {
    "asymmetric": {},
    "uint8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "symmetric": SYMMETRIC,
    "symmetric, per channel": {**SYMMETRIC, "per_channel": True},
    "integer operators": {"quant_format": QuantFormat.QOperator},
    "integer operators, per channel": {
        "quant_format": QuantFormat.QOperator,
        "activation_type": QuantType.QUInt8,
        "per_channel": True,
    },
}
FOR_TENSORRT = {"symmetric", "symmetric, per channel"}
CASES = [*STATIC, "dynamic"]


class _Reader(CalibrationDataReader):
    def __init__(self, values):
        self._left = iter([{"image": each} for each in values])

    def get_next(self):
        return next(self._left, None)


def pictures(count=8, seed=3):
    """Return inputs of the small network, float32."""
    random = np.random.default_rng(seed)
    return [random.uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(count)]


def quantized_network(case: str, folder, network: bytes | None = None) -> bytes:
    """Return the small network quantised by ONNX Runtime, as ``case`` says."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    source.write_bytes(small_network() if network is None else network)
    if case == "dynamic":
        # ONNX Runtime 1.23 has no ConvInteger for signed weights.
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    else:
        quantize_static(source, target, _Reader(pictures()), **STATIC[case])
    return target.read_bytes()


def clipped_network() -> bytes:
    """Return a network as Brevitas exports it: integers are clipped, weights come as float."""
    values = {
        "scale": np.float32(1 / 64), "zero": np.int8(0),
        "lowest": np.int8(-127), "highest": np.int8(127),
        "weights": np.random.default_rng(4).normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32),
    }  # fmt: skip

    def quantized(name):
        return [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("Clip", [f"{name}_q", "lowest", "highest"], [f"{name}_c"]),
            helper.make_node("DequantizeLinear", [f"{name}_c", "scale", "zero"], [f"{name}_x"]),
        ]

    return to_onnx(
        helper.make_graph(
            [
                *quantized("image"),
                *quantized("weights"),
                helper.make_node("Conv", ["image_x", "weights_x"], ["seen"]),
                helper.make_node("GlobalAveragePool", ["seen"], ["mean"]),
                helper.make_node("Flatten", ["mean"], ["logits"]),
            ],
            "clipped",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(LABELS)])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
        )
    )


def small_transformer(*, depth=2, width=32, outlier=1.0, seed=5) -> bytes:
    """Return a vision transformer for pictures of 16x16 in patches of 4x4, with one head.

    ``outlier``: one channel that enters each matrix product is larger by so much, and its weights
    smaller, as in networks that were trained for long.
    """
    graph = Graph(seed)
    patches = (SIDE // 4) ** 2
    sizes = np.ones(width)
    sizes[3] = outlier

    def linear(x, inside, outside, factors=1.0):
        weights = np.random.default_rng(len(graph.nodes)).normal(
            0, inside**-0.5, (inside, outside)
        )
        weights = graph.weight(weights / np.broadcast_to(factors, inside)[:, None])
        return graph.add(
            "Add", [graph.add("MatMul", [x, weights]), graph.noise(outside, scale=0.1)]
        )

    def normalized(x):
        constants = [graph.weight(sizes), graph.noise(width, scale=0.1)]
        return graph.add("LayerNormalization", [x, *constants], axis=-1)

    def attention(x):
        query, key, value = (linear(x, width, width, sizes) for _ in range(3))
        scores = graph.add("MatMul", [query, graph.add("Transpose", [key], perm=[0, 2, 1])])
        scores = graph.add("Mul", [scores, graph.weight(width**-0.5)])
        mixed = graph.add("MatMul", [graph.add("Softmax", [scores], axis=-1), value])
        return linear(mixed, width, width)

    kernel = graph.noise(width, 3, 4, 4, scale=0.15)
    x = graph.add("Conv", ["image", kernel], kernel_shape=[4, 4], strides=[4, 4])
    shape = numpy_helper.from_array(np.array([1, width, patches]), "tokens")
    x = graph.add("Transpose", [graph.add("Reshape", [x, "tokens"])], perm=[0, 2, 1])
    for _ in range(depth):
        x = graph.add("Add", [x, attention(normalized(x))])
        hidden = graph.add("Relu", [linear(normalized(x), width, 4 * width, sizes)])
        x = graph.add("Add", [x, linear(hidden, 4 * width, width)])
    x = graph.add("ReduceMean", [normalized(x)], axes=[1], keepdims=0)
    last = [x, graph.noise(width, len(LABELS)), graph.noise(len(LABELS), scale=0.1)]
    return to_onnx(
        helper.make_graph(
            [*graph.nodes, helper.make_node("Gemm", last, ["logits"], name="head")],
            "transformer",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(LABELS)])],
            [*graph.weights, shape],
        )
    )


def operators(model: bytes) -> set[str]:
    """Return the names of the operators of a model."""
    return {node.op_type for node in onnx.load_model_from_string(model).graph.node}
