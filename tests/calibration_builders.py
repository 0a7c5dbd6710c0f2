# SPDX-License-Identifier: Apache-2.0
"""A small network of the MobileNet kind, and pictures to calibrate it with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper

from perception_node.calibration.quantization import prepare, quantize_for_tensorrt
from perception_node.calibration.ranges import measure
from perception_node.model.bundle import Input
from tests.builders import LABELS, MANIFEST, encode, make_bundle, smooth, to_onnx
from tests.tensorrt_builders import Graph

SIDE = 16
MANIFEST_OF_IT = replace(MANIFEST, name="small", input=Input("image", SIDE, SIDE))


def small_network(*, weight: float | None = None, seed: int = 1) -> bytes:
    """Return three convolutions, the second depthwise, with ReLU6: "image" to "logits".

    ``weight`` replaces one of the weights, by something that is no number for example.
    """
    graph = Graph(seed)
    limits = [graph.weight(0.0), graph.weight(6.0)]

    def layer(x, outside, inside, kernel, group=1):
        weights = graph.noise(outside, inside, kernel, kernel, scale=(2 / inside) ** 0.5 / kernel)
        x = graph.add(
            "Conv", [x, weights, graph.noise(outside, scale=0.1)],
            kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=group,
        )  # fmt: skip
        return graph.add("Clip", [x, *limits])

    x = layer("image", 8, 3, 3)
    x = layer(x, 8, 1, 3, group=8)
    x = layer(x, 16, 8, 1)
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    last = [x, graph.noise(len(LABELS), 16), graph.noise(len(LABELS), scale=0.1)]
    if weight is not None:
        graph.weights[2].float_data[:] = []
        values = np.frombuffer(graph.weights[2].raw_data, np.float32).copy()
        values[0] = weight
        graph.weights[2].raw_data = values.tobytes()
    return to_onnx(
        helper.make_graph(
            [*graph.nodes, helper.make_node("Gemm", last, ["logits"], name="gemm", transB=1)],
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(LABELS)])],
            graph.weights,
        )
    )


def quantize(model: bytes, batches) -> bytes:
    """Return an int8 model for TensorRT, its ranges the smallest and largest values seen."""
    prepared = prepare(model)
    return quantize_for_tensorrt(prepared, measure(prepared, batches))


def small_bundle(folder, model: bytes | None = None):
    """Write a bundle with the small network."""
    return make_bundle(folder, small_network() if model is None else model, MANIFEST_OF_IT)


def write_pictures(folder, count: int, first: int = 0):
    """Write JPEG files that all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number:03}.jpg").write_bytes(encode(smooth(40, 60, seed=number)))
    return folder
