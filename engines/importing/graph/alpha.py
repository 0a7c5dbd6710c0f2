# SPDX-License-Identifier: Apache-2.0
"""In the confined child: tell whether a graph with four channels leaves out the fourth itself.

A browser's canvas gives RGBA, and a graph that is made for it drops alpha before it computes. A
fourth channel that goes on into the network is something else: infrared, depth, a colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.engines.importing.graph.constants import constant_of
from perception_node.engines.onnx_graph import reads

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from perception_node.engines.importing.graph.layouts import Layout

ELEMENTWISE = {"Cast", "Identity", "Mul", "Div", "Sub", "Add", "Clip", "Resize"}
COLOURS = ([0, 1, 2], [2, 1, 0])


def drops_alpha(model: ModelProto, name: str, layout: Layout) -> bool:
    """Tell whether all that reads the input ``name`` takes its first three channels only."""
    try:
        return _drops_alpha(model.graph, name, layout.axes.index("C"), len(layout.axes))
    except (ValueError, IndexError, TypeError):  # a damaged attribute
        return False


def _drops_alpha(graph: GraphProto, name: str, axis: int, rank: int) -> bool:
    waiting = [(name, axis, rank)]
    while waiting:
        name, axis, rank = waiting.pop()
        readers = [node for node in graph.node if name in reads(node)]
        if not readers:
            return False
        for node in readers:
            if _takes_colours(graph, node, axis, rank):
                continue
            moved = _follow(graph, node, axis, rank)
            if moved is None or node.input[0] != name:
                return False
            waiting.append((node.output[0], *moved))
    return True


def _takes_colours(graph: GraphProto, node: NodeProto, axis: int, rank: int) -> bool:
    """Tell whether a node gives the first three of four channels, which lie on ``axis``."""
    attributes = {each.name: each for each in node.attribute}
    if node.op_type == "Gather":
        indices = constant_of(graph, node.input[1])
        along = attributes["axis"].i if "axis" in attributes else 0
        return along % rank == axis and indices is not None and indices.tolist() in COLOURS
    if node.op_type != "Slice":
        return False
    parts = _slice_parts(graph, node, rank)
    return parts is not None and parts.get(axis) in {(0, 3), (0, -1), (-4, 3), (-4, -1)}


def _slice_parts(
    graph: GraphProto, node: NodeProto, rank: int
) -> dict[int, tuple[int, int]] | None:
    """Return begin and end by axis of a Slice; None where they are computed, or it has steps."""
    attributes = {each.name: list(each.ints) for each in node.attribute}
    found = [attributes.get(name) for name in ("starts", "ends", "axes")]
    for place, source in enumerate(node.input[1:4]):
        values = constant_of(graph, source)
        found[place] = None if values is None else values.ravel().tolist()
    starts, ends, axes = found
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    if len(node.input) > 4:
        steps = constant_of(graph, node.input[4])
        if steps is None or not np.all(steps == 1):
            return None
    axes = list(range(len(starts))) if axes is None else axes
    return {
        axis % rank: (begin, end) for axis, begin, end in zip(axes, starts, ends, strict=False)
    }


def _follow(graph: GraphProto, node: NodeProto, axis: int, rank: int) -> tuple[int, int] | None:
    """Return place of the channels and number of axes behind a node; None where it is unknown."""
    attributes = {each.name: each for each in node.attribute}
    if node.op_type in ELEMENTWISE:
        return axis, rank
    if node.op_type == "Transpose" and "perm" in attributes:
        return list(attributes["perm"].ints).index(axis), rank
    if node.op_type in {"Unsqueeze", "Squeeze"}:
        axes = list(attributes["axes"].ints) if "axes" in attributes else None
        if axes is None and len(node.input) > 1:
            values = constant_of(graph, node.input[1])
            axes = None if values is None else values.ravel().tolist()
        return None if axes is None else _move(node.op_type, axes, axis, rank)
    return None


def _move(operator: str, axes: list[int], axis: int, rank: int) -> tuple[int, int] | None:
    """Return the same where axes of length 1 are added or removed."""
    if operator == "Squeeze":
        gone = {each % rank for each in axes}
        kept = [place for place in range(rank) if place not in gone]
        return (kept.index(axis), len(kept)) if axis in kept else None
    total = rank + len(axes)
    added = {each % total for each in axes}
    old = [place for place in range(total) if place not in added]
    return old[axis], total
