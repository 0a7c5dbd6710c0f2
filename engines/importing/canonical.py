# SPDX-License-Identifier: Apache-2.0
"""In the confined child: rewrite a graph so that it takes and gives what every bundle does.

The result takes float32 of shape (1, 3, height, width) and gives float32 of shape (1, classes).
Nodes are added at both ends; only a uint8 input changes more: TensorRT has no uint8 inside a
graph, so the nodes that merely move the pixels carry float32 up to the Cast that was there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.layouts import LAYOUTS, OPAQUE
from perception_node.engines.importing.loading import all_nodes, subgraphs
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import GraphProto, ModelProto

    from perception_node.engines.importing.inspection import GraphFacts

WEIGHTS_ARE_NO_INPUTS_FROM = 4  # version of ONNX's file format

# Nodes that give back what they get, at other places.
MOVING = {
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}


def canonicalise(
    path: Path,
    model: ModelProto,
    facts: GraphFacts,
    size: tuple[int, int],
    scores: tuple[int, ...],
) -> ModelProto:
    """Return the rewritten model; ``model``, with one input and one output, is left as it is.

    ``size`` is the height and width of the input in pixels, ``scores`` the shape in which the
    model gives the output for one image.

    Raises:
        ConversionError: its uint8 input is used in a way that cannot be rewritten.

    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = rewritten.graph
    del graph.input[:], graph.value_info[:]  # weights need not be inputs, shapes are worked out
    del rewritten.training_info[:]
    rewritten.ir_version = max(rewritten.ir_version, WEIGHTS_ARE_NO_INPUTS_FROM)
    if facts.element == "uint8":
        _carry_floats(path, graph, facts.input)
    _rewrite_input(graph, facts, size)
    _rewrite_output(graph, facts.output, scores)
    _drop_notes(rewritten)
    return rewritten


def _rewrite_input(graph: GraphProto, facts: GraphFacts, size: tuple[int, int]) -> None:
    """Add the nodes between our input and the model's own."""
    layout = LAYOUTS[facts.layout]
    shape = [1, 3, *size]
    steps: list[tuple[str, dict[str, Any]]] = []
    if layout.alpha:
        steps.append(("Concat", {"axis": 1}))
    if layout.order != (0, 1, 2, 3):
        steps.append(("Transpose", {"perm": list(layout.order)}))
    if not layout.batched:
        steps.append(("Reshape", {}))
    if facts.element == "float16":
        steps.append(("Cast", {"to": TensorProto.FLOAT16}))
    name = unused_name(graph, "image") if steps else facts.input
    graph.input.insert(0, helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for place, (operator, attributes) in enumerate(steps):
        target = facts.input if place + 1 == len(steps) else unused_name(graph, operator.lower())
        inputs = [name, *_constants(graph, operator, layout.order, shape, alpha=layout.alpha)]
        graph.node.insert(place, helper.make_node(operator, inputs, [target], **attributes))
        name = target


def _constants(
    graph: GraphProto, operator: str, order: tuple[int, ...], shape: list[int], *, alpha: bool
) -> list[str]:
    """Add the constant that a node of the input needs, and return its name."""
    if operator == "Concat":
        value = np.full((1, 1, *shape[2:]), OPAQUE, np.float32)
    elif operator == "Reshape":
        channels = 4 if alpha else 3
        axes = (1, channels, *shape[2:])
        value = np.array([axes[place] for place in order[1:]], np.int64)
    else:
        return []
    name = unused_name(graph, f"image_{operator.lower()}")
    graph.initializer.append(numpy_helper.from_array(value, name))
    return [name]


def _rewrite_output(graph: GraphProto, name: str, scores: tuple[int, ...]) -> None:
    """Give the output the shape (1, classes) and the type float32."""
    row = [1, math.prod(scores)]
    if graph.output[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        target = unused_name(graph, "scores")
        graph.node.append(helper.make_node("Cast", [name], [target], to=TensorProto.FLOAT))
        name = target
    if list(scores) != row:
        shape, target = unused_name(graph, "scores_shape"), unused_name(graph, "scores")
        graph.initializer.append(numpy_helper.from_array(np.array(row, np.int64), shape))
        graph.node.append(helper.make_node("Reshape", [name, shape], [target]))
        name = target
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, row))


def _carry_floats(path: Path, graph: GraphProto, name: str) -> None:
    """Check that a uint8 tensor only moves until a Cast makes other numbers of it."""
    waiting, seen = [name], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in graph.node:
            inside = [inner for graph in subgraphs(node) for inner in all_nodes(graph)]
            if not any(name in reader.input for reader in (node, *inside)):
                continue
            if node.op_type == "Cast":
                continue
            if node.op_type not in MOVING or (name in node.input[1:] and node.op_type != "Concat"):
                problem = (
                    f"its uint8 input goes into {node.op_type!a} without a Cast; "
                    "export it with a float32 input"
                )
                raise ConversionError(path, problem)
            waiting.extend(node.output)


def unused_name(graph: GraphProto, wish: str) -> str:
    """Return a name that no tensor of the graph has."""
    taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in all_nodes(graph):
        taken |= set(node.input) | set(node.output)
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


def _drop_notes(model: ModelProto) -> None:
    """Remove what does not change the results: paths of the machine it was made on, and such."""
    for message in (model, model.graph, *model.graph.node):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:  # nodes have notes since onnx 1.16
                message.ClearField(field)
