# SPDX-License-Identifier: Apache-2.0
"""In the confined child: choose the output that holds the scores."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from onnx import TensorProto, shape_inference

from perception_node.errors import ConversionError
from perception_node.printable import is_printable

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, NodeProto, ValueInfoProto

    from perception_node.engines.importing.graph.findings import Findings

FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
}
MAX_LISTED = 8
MAX_NAME = 200  # characters
YES_OR_NO = 2  # labels, for which one score is enough
BEST_OF = {"ArgMax", "TopK"}  # they leave the number of the best class, and no scores
PASSING = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}


def choose_output(
    path: Path,
    model: ModelProto,
    wish: str,
    classes: int | None,
    findings: Findings,
) -> str:
    """Return the name of the output that holds the scores.

    ``wish`` is the name that the user gave, of an output or of a tensor inside the graph, or
    empty; ``classes`` the number of labels, if it is known. Where more than one output may hold
    the scores, the question becomes one of the findings and the first of them is returned.

    Raises:
        ConversionError: no output has scores, or none has the name ``wish``.

    """
    if wish:
        return _wished(path, model, wish)
    scores = [value for value in model.graph.output if _is_scores(value)]
    if not scores:
        raise ConversionError(path, _describe_lack(model))
    name = str(scores[0].name)
    if len(model.graph.output) > 1:
        candidates, reason = _candidates(model, scores, classes)
        name = str(candidates[0].name)
        others = [value.name for value in model.graph.output if value.name != name]
        if len(candidates) == 1:
            findings.notes.append(f"output {name} taken ({reason}), not {_join(others)}")
        else:
            findings.questions["output_name"] = f"NAME: {_list(candidates)}"
    if not is_printable(name):
        raise ConversionError(path, "the name of its output is not printable")
    return name


def _wished(path: Path, model: ModelProto, wish: str) -> str:
    found = [value for value in model.graph.output if value.name == wish]
    if found and not _is_scores(found[0]):
        problem = f"its output {_show(found[0])} holds no scores; choose another --output-name"
        raise ConversionError(path, problem)
    if not found and not any(wish in node.output for node in model.graph.node):
        problem = f"it has no output {wish!r}; its outputs are {_list(list(model.graph.output))}"
        raise ConversionError(path, f"{problem}; correct --output-name")
    return wish


def _candidates(
    model: ModelProto, scores: list[ValueInfoProto], classes: int | None
) -> tuple[list[ValueInfoProto], str]:
    """Return the outputs that may hold the scores, and why if it is one."""
    if len(scores) == 1:
        return scores, "the only one with scores"
    scores = _with_shapes(model, scores)
    rows = [value for value in scores if _row_length(value) is not None]
    if classes:
        lengths = {classes, 1} if classes == YES_OR_NO else {classes}
        fitting = [value for value in rows if _row_length(value) in lengths]
        return fitting or scores, f"the only row of {classes} scores, as many as labels"
    if rows and all(_shape(value) for value in scores):
        return rows, "the only row of scores"
    return scores, ""


def _with_shapes(model: ModelProto, values: list[ValueInfoProto]) -> list[ValueInfoProto]:
    """Return outputs with what can be worked out of their shapes."""
    try:
        known = {v.name: v for v in shape_inference.infer_shapes(model).graph.output}
    except Exception:  # noqa: BLE001 - it documents none; the shapes that are stated must do
        return values
    return [known.get(value.name, value) for value in values]


def _row_length(value: ValueInfoProto) -> int | None:
    """Return the number of scores if all other axes have the length 1; the first may be open."""
    shape = _shape(value)
    axes = shape if len(shape) == 1 else shape[1:]
    long = [axis for axis in axes if axis != 1]
    if not long:
        return 1
    return long[0] if len(long) == 1 else None


def _shape(value: ValueInfoProto) -> list[int | None]:
    """Return an output's shape; an axis of None is open, and no axis at all stands for unknown."""
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.dim_value > 0 else None for axis in axes]


def _is_scores(value: ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in FLOATS


def _describe_lack(model: ModelProto) -> str:
    """Say that no output has scores, and where they can be taken from."""
    outputs = list(model.graph.output)
    problem = f"it gives no scores: {_list(outputs) or 'it has no output'}"
    makers = {name: node for node in model.graph.node for name in node.output}
    for value in outputs:
        source = _behind_best(value.name, makers)
        if source:
            return (
                f"{problem} (class numbers of {_chooser(makers, value.name)}); "
                f"give --output-name {shlex.quote(_name(source))}, from which they are made"
            )
    return f"{problem}; export it with its scores as a float32 output"


def _chooser(makers: dict[str, NodeProto], name: str) -> str:
    """Return the operator that chose the best class."""
    node = makers[name]
    while node.op_type in PASSING:
        node = makers[node.input[0]]
    return ascii(node.op_type)[1:-1]


def _behind_best(name: str, makers: dict[str, NodeProto]) -> str:
    """Return the scores from which an ArgMax made the output ``name``; empty if it is none."""
    for _ in range(len(makers)):
        node = makers.get(name)
        if node is None or not node.input:
            return ""
        if node.op_type in BEST_OF:
            return str(node.input[0])
        if node.op_type not in PASSING:
            return ""
        name = node.input[0]
    return ""


def _list(values: list[ValueInfoProto]) -> str:
    return _join([_show(value) for value in values])


def _join(names: list[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(map(_name, names[:MAX_LISTED])) + (f" and {more} more" if more > 0 else "")


def _show(value: ValueInfoProto) -> str:
    """Return name, type and shape of an output."""
    names = TensorProto.DataType
    kind = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type"):
        return f"{value.name} (no tensor)"
    type_ = FLOATS.get(kind) or (names.Name(kind).lower() if kind in names.values() else "?")
    axes = ", ".join("?" if axis is None else str(axis) for axis in _shape(value))
    return f"{value.name} ({type_} [{axes}])"


def _name(name: str) -> str:
    return name if is_printable(name) else ascii(name)[:MAX_NAME]
