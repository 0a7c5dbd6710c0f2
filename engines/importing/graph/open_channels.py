# SPDX-License-Identifier: Apache-2.0
"""In the confined child: where the channels of an open input are, by its first convolution.

Exporters such as Optimum leave all four axes of the image open. A convolution takes its channels
from the second axis, and its weights say how many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.engines.importing.graph.constants import constants
from perception_node.engines.importing.graph.layouts import LAYOUTS

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

ALONG = {
    *("Add", "BatchNormalization", "Cast", "Clip", "DequantizeLinear", "Div", "Identity"),
    *("Mul", "Pad", "QuantizeLinear", "Resize", "Sub"),
}
WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # places among the inputs
UNCHANGED = {"Cast", "DequantizeLinear", "Identity"}  # as far as the shape of weights goes


def find_open_layout(graph: GraphProto, image: str) -> str | None:
    """Return the layout of an input with four axes, a key of ``LAYOUTS``; None if none is seen."""
    # Tensors, and where their axes are in the image.
    waiting: list[tuple[str, tuple[int, ...]]] = [(image, (0, 1, 2, 3))]
    seen = set()
    while waiting:
        name, places = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in (each for each in graph.node if name in each.input[:1]):
            if node.op_type in WEIGHTS:
                return _layout(places[1], _count_channels(graph, node))
            if node.op_type in ALONG:
                waiting.append((node.output[0], places))
            elif node.op_type == "Transpose" and (order := _order(node)) is not None:
                waiting.append((node.output[0], tuple(places[axis] for axis in order)))
    return None


def _layout(place: int, channels: int | None) -> str | None:
    """Return the layout with so many channels at a place."""
    axes = {1: "NCHW", 3: "NHWC"}.get(place)
    names = (
        name for name, each in LAYOUTS.items() if (each.axes, each.channels) == (axes, channels)
    )
    return next(names, None)


def _count_channels(graph: GraphProto, node: NodeProto) -> int | None:
    makers = {name: each for each in graph.node for name in each.output}
    name = node.input[WEIGHTS[node.op_type]]
    while name in makers and makers[name].op_type in UNCHANGED:
        name = makers.pop(name).input[0]
    groups = next((each.i for each in node.attribute if each.name == "group"), 1)
    shapes = (list(tensor.dims) for holder, tensor in constants(graph) if holder == name)
    return next((shape[1] * groups for shape in shapes if len(shape) == len("NCHW")), None)


def _order(node: NodeProto) -> list[int] | None:
    """Return the order of a Transpose of four axes."""
    order = next((list(each.ints) for each in node.attribute if each.name == "perm"), [3, 2, 1, 0])
    return order if sorted(order) == [0, 1, 2, 3] else None
