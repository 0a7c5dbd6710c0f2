# SPDX-License-Identifier: Apache-2.0
"""Networks for tests of TensorRT: a real ResNet-18 in ONNX, without PyTorch."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.builders import to_onnx

STAGES = (1, 2, 4, 8)  # channels, in multiples of the first stage's


class Graph:
    """Collects nodes and seeded weights; each method returns the name of its result."""

    def __init__(self, seed: int) -> None:
        self.nodes = []
        self.weights = []
        self._random = np.random.default_rng(seed)

    def add(self, operation, inputs, **attributes):
        name = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def weight(self, values):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def noise(self, *shape, scale=1.0, mean=0.0):
        return self.weight(self._random.normal(mean, scale, shape))

    def convolution(self, x, inside, outside, *, kernel=3, stride=1):
        """Add a convolution and its batch normalisation, as PyTorch exports a training model."""
        weight = self.noise(
            outside, inside, kernel, kernel, scale=(2 / (inside * kernel**2)) ** 0.5
        )
        x = self.add(
            "Conv", [x, weight], kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[kernel // 2] * 4,
        )  # fmt: skip
        statistics = [
            self.noise(outside, scale=0.1, mean=1.0),
            self.noise(outside, scale=0.1),
            self.noise(outside, scale=0.1),
            self.weight(np.abs(self._random.normal(1.0, 0.1, outside))),
        ]
        return self.add("BatchNormalization", [x, *statistics])

    def block(self, x, inside, outside, stride):
        shortcut = x
        y = self.add("Relu", [self.convolution(x, inside, outside, stride=stride)])
        y = self.convolution(y, outside, outside)
        if stride != 1 or inside != outside:
            shortcut = self.convolution(x, inside, outside, kernel=1, stride=stride)
        return self.add("Relu", [self.add("Add", [y, shortcut])])


def resnet18(classes: int = 21, side: int = 64, seed: int = 0, width: int = 64) -> bytes:
    """Return ResNet-18 with weights as at the start of training: "image" to "logits".

    The real one is 64 channels wide; a narrow one has the same graph and is quick.
    """
    graph = Graph(seed)
    x = graph.add("Relu", [graph.convolution("image", 3, width, kernel=7, stride=2)])
    x = graph.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inside = width
    for index, multiple in enumerate(STAGES):
        outside = multiple * width
        for stride in (1 if index == 0 else 2, 1):
            x = graph.block(x, inside, outside, stride)
            inside = outside
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    weight, bias = graph.noise(classes, inside, scale=0.04), graph.noise(classes, scale=0.1)
    last = helper.make_node("Gemm", [x, weight, bias], ["logits"], name="gemm", transB=1)
    return to_onnx(
        helper.make_graph(
            [*graph.nodes, last],
            "resnet18",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
            graph.weights,
        )
    )
