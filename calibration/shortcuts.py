# SPDX-License-Identifier: Apache-2.0
"""For TensorRT: quantise the shortcut of a residual block where it is a convolution of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from perception_node.calibration.bias_correction import CONVOLUTION, LARGEST_INT8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.calibration.ranges import Ranges

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def quantize_shortcuts(graph: onnx.GraphProto, ranges: Ranges) -> None:
    """Put Q/DQ before each addition of two convolutions, on the branch that is the shortcut."""
    maker = {name: node for node in graph.node for name in node.output}
    depth: dict[str, int] = {}
    for node in graph.node:
        below = max((depth.get(name, 0) for name in node.input), default=0) + 1
        depth.update(dict.fromkeys(node.output, below))
    for addition in [node for node in graph.node if node.op_type == "Add"]:
        makers = [maker[name].op_type for name in addition.input if name in maker]
        if makers == [CONVOLUTION, CONVOLUTION]:
            shortcut = min(addition.input, key=depth.__getitem__)
            _insert_pair(graph, addition, shortcut, symmetric_scale(ranges[shortcut]))


def symmetric_scale(limits: tuple[float, float]) -> NDArray[np.float32]:
    """Return TensorRT's scale for a range, as a float32 scalar: never 0."""
    largest = max(abs(limit) for limit in limits)
    return np.array(max(largest / LARGEST_INT8, SMALLEST_SCALE), np.float32)


def _insert_pair(
    graph: onnx.GraphProto, reader: onnx.NodeProto, tensor: str, scale: NDArray[np.float32]
) -> None:
    """Let one reader of a tensor read it quantised and dequantised."""
    names = {part: f"{tensor}_Shortcut{part}" for part in ("Scale", "Zero", "Quantized", "Value")}
    parameters = [names["Scale"], names["Zero"]]
    graph.initializer.append(numpy_helper.from_array(scale, names["Scale"]))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), names["Zero"]))
    pair = [
        onnx.helper.make_node("QuantizeLinear", [tensor, *parameters], [names["Quantized"]]),
        onnx.helper.make_node(
            "DequantizeLinear", [names["Quantized"], *parameters], [names["Value"]]
        ),
    ]
    place = next(i for i, node in enumerate(graph.node) if node.output == reader.output)
    for offset, node in enumerate(pair):
        node.name = node.output[0]
        graph.node.insert(place + offset, node)
    added = graph.node[place + len(pair)]
    added.input[:] = [names["Value"] if name == tensor else name for name in added.input]
