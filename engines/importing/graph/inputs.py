# SPDX-License-Identifier: Apache-2.0
"""In the confined child: tell the image among a graph's inputs, and give the others a value.

A graph that was exported as it was trained may ask whether it is trained, or for the share of
values to keep in a dropout. Such an input is fixed to what it is when images are classified.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper

from perception_node.errors import ConversionError
from perception_node.printable import is_printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, ValueInfoProto

    from perception_node.engines.importing.graph.findings import Findings
    from perception_node.engines.importing.graph.inspection import GraphFacts

MAX_NAMED = 5
NUMBERS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
# Words in an input's name, and the value that it has when images are classified.
USUAL = (
    (r"keep", 1),
    (r"drop|train|phase|learning", 0),
    (r"infer|eval|test", 1),
)


def choose_image(
    path: Path, model: ModelProto, given: dict[str, float], findings: Findings
) -> tuple[ValueInfoProto, dict[str, float]]:
    """Return the input that takes the image, and values of the others by name.

    ``given`` are values that the user gave by name. What the values are, or that one must be
    given, is added to the findings.

    Raises:
        ConversionError: there is not one image, or a value that is given fits no input.

    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    numbers = [value for value in inputs if _is_one_number(value)]
    images = [value for value in inputs if value not in numbers]
    if len(images) != 1:
        names = ", ".join(_show(value) for value in inputs[:MAX_NAMED]) or "none"
        problem = f"one image is needed as input, it has {len(inputs)} inputs: {names}"
        raise ConversionError(path, problem if not images else f"{problem}; export it without")
    unknown = set(given) - {value.name for value in numbers}
    if unknown:
        problem = f"it has no input {min(unknown)!r} that takes one number"
        raise ConversionError(path, f"{problem}; correct --fix-input")
    if not is_printable(images[0].name):
        raise ConversionError(path, "the name of its input is not printable")
    fixed = {value.name: _value(path, value, given, findings) for value in numbers}
    return images[0], fixed


def fix(graph: GraphProto, values: dict[str, float]) -> None:
    """Make weights of the inputs that have a value."""
    for index in reversed(range(len(graph.input))):
        value = graph.input[index]
        if value.name in values:
            number = _number(value, values[value.name])
            graph.initializer.append(numpy_helper.from_array(number, value.name))
            del graph.input[index]


def feeds(
    model: ModelProto, facts: GraphFacts, images: Sequence[NDArray[Any]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield all that a model takes by name, once for each image.

    A model for several images at once gets that one first, and others behind it.
    """
    fixed = {
        value.name: _number(value, facts.fixed[value.name])
        for value in model.graph.input
        if value.name in facts.fixed
    }
    for index, image in enumerate(images):
        others = [images[(index + step) % len(images)] for step in range(1, facts.batch)]
        yield {facts.input: np.concatenate([image, *others]) if others else image, **fixed}


def _number(value: ValueInfoProto, number: float) -> NDArray[Any]:
    tensor_type = value.type.tensor_type
    return np.full([1] * len(tensor_type.shape.dim), number, NUMBERS[tensor_type.elem_type])


def _is_one_number(value: ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    axes = tensor.shape.dim
    return (
        value.type.HasField("tensor_type")
        and tensor.elem_type in NUMBERS
        and tensor.HasField("shape")
        and len(axes) <= 2
        and all(axis.dim_value == 1 or (len(axes) == 1 and not axis.dim_value) for axis in axes)
    )


def _value(
    path: Path, value: ValueInfoProto, given: dict[str, float], findings: Findings
) -> float:
    name, kind = value.name, NUMBERS[value.type.tensor_type.elem_type]
    if not is_printable(name):
        raise ConversionError(path, "the name of an input is not printable")
    usual = [number for words, number in USUAL if re.search(words, name.lower())]
    if name not in given and not usual:
        asked = findings.questions.get("fix_input", "NAME=VALUE: the number that each takes:")
        findings.questions["fix_input"] = f"{asked} {name} ({kind})"
        return 0.0
    found, why = (given[name], "given") if name in given else (usual[0], "as its name says")
    if not math.isfinite(found) or (not kind.startswith("float") and found % 1):
        raise ConversionError(path, f"--fix-input {name}: {found:g} is no {kind}")
    shown: Any = bool(found) if kind == "bool" else f"{found:g}"
    findings.notes.append(f"input {name} fixed at {shown} ({why})")
    return float(found)


def _show(value: ValueInfoProto) -> str:
    name = value.name if is_printable(value.name) else ascii(value.name)[:80]
    axes = value.type.tensor_type.shape.dim
    return f"{name} [{', '.join(str(axis.dim_value or '?') for axis in axes)}]"
