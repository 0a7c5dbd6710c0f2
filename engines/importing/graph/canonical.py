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

from perception_node.engines.importing.graph.dequantized import drop_unused_domains
from perception_node.engines.importing.graph.doubles import make_single
from perception_node.engines.importing.graph.inputs import fix
from perception_node.engines.importing.graph.layouts import LAYOUTS, OPAQUE, grey_weights
from perception_node.engines.importing.graph.loading import WEIGHTS_ARE_NO_INPUTS_FROM
from perception_node.engines.onnx_graph import reads, unused_name
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto

    from perception_node.engines.importing.graph.batches import Change
    from perception_node.engines.importing.graph.inspection import GraphFacts
    from perception_node.engines.importing.graph.layouts import Layout

CAST = {
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
WHOLE_NUMBERS = {"uint8", "int32", "int64"}

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
    *,
    color: str = "RGB",
    change: Change | None,
) -> ModelProto:
    """Return the rewritten model; ``model``, whose only output is the scores, is left as it is.

    ``size`` is the height and width of the input in pixels, ``scores`` the shape in which the
    model gives the output for one image, ``color`` the order of the channels from which grey is
    made. ``change`` makes the graph one for a batch of 1; without it, a graph for a larger batch
    gets copies of the image.

    Raises:
        ConversionError: its uint8 input is used in a way that cannot be rewritten.

    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = rewritten.graph
    fix(graph, facts.fixed)
    del graph.input[:], graph.value_info[:]  # weights need not be inputs, shapes are worked out
    del rewritten.training_info[:]
    rewritten.ir_version = max(rewritten.ir_version, WEIGHTS_ARE_NO_INPUTS_FROM)
    make_single(graph)
    if facts.element == "uint8":
        _carry_floats(path, graph, facts.input)
    if change is not None:
        change(graph)
    copies = facts.batch if change is None else 1
    _rewrite_input(graph, facts, size, grey_weights(color), copies)
    _rewrite_output(graph, facts.output, scores, copies)
    drop_unused_domains(rewritten)
    _drop_notes(rewritten)
    return rewritten


def _rewrite_input(
    graph: GraphProto,
    facts: GraphFacts,
    size: tuple[int, int],
    grey: NDArray[np.float32],
    copies: int,
) -> None:
    """Add the nodes between our input and the model's own."""
    layout = LAYOUTS[facts.layout]
    steps = _input_steps(layout, facts.element, size, grey)
    if copies > 1:
        steps.append(("Concat", {"axis": 0}, None))
    name = unused_name(graph, "image") if steps else facts.input
    image = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *size])
    graph.input.insert(0, image)
    for place, (operator, attributes, constant) in enumerate(steps):
        target = facts.input if place + 1 == len(steps) else unused_name(graph, operator.lower())
        inputs = [name]
        if constant is not None:
            inputs.append(unused_name(graph, f"image_{operator.lower()}"))
            graph.initializer.append(numpy_helper.from_array(constant, inputs[1]))
        elif operator == "Concat":
            inputs *= copies
        graph.node.insert(place, helper.make_node(operator, inputs, [target], **attributes))
        name = target


def _input_steps(
    layout: Layout, element: str, size: tuple[int, int], grey: NDArray[np.float32]
) -> list[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Return operator, attributes and constant of each node that the input needs."""
    steps: list[tuple[str, dict[str, Any], NDArray[Any] | None]] = []
    if layout.alpha:
        steps.append(("Concat", {"axis": 1}, np.full((1, 1, *size), OPAQUE, np.float32)))
    elif layout.channels == 1:
        steps.append(("Conv", {}, grey.reshape(1, 3, 1, 1)))
        if element in WHOLE_NUMBERS:
            steps.append(("Round", {}, None))
    if layout.order != (0, 1, 2, 3):
        steps.append(("Transpose", {"perm": list(layout.order)}, None))
    if len(layout.axes) != len("NCHW"):
        steps.append(("Reshape", {}, np.array(layout.shape(*size), np.int64)))
    if element in CAST:
        steps.append(("Cast", {"to": CAST[element]}, None))
    return steps


def _rewrite_output(graph: GraphProto, name: str, scores: tuple[int, ...], copies: int) -> None:
    """Give the output the shape (1, classes) and the type float32."""
    row = [1, math.prod(scores)]
    if copies > 1:
        first, target = unused_name(graph, "first"), unused_name(graph, "scores")
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), first))
        graph.node.append(helper.make_node("Gather", [name, first], [target], axis=0))
        name = target
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
            if name not in reads(node):
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


def _drop_notes(model: ModelProto) -> None:
    """Remove what does not change the results: paths of the machine it was made on, and such."""
    for message in (model, model.graph, *model.graph.node):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:  # nodes have notes since onnx 1.16
                message.ClearField(field)
