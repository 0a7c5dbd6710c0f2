# SPDX-License-Identifier: Apache-2.0
"""In the confined child: say what an ONNX model takes and gives."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from perception_node.engines.importing.layouts import find_layout
from perception_node.engines.importing.loading import load_model
from perception_node.engines.importing.quantized import quantized_form
from perception_node.errors import ConversionError
from perception_node.printable import is_printable

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MAX_NAMED = 5
ELEMENTS = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
}


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a graph with one input and one output is made for.

    Attributes:
        input: name of the input.
        element: element type of the input: ``float32``, ``float16`` or ``uint8``.
        layout: order of the input's axes, a key of ``layouts.LAYOUTS``.
        height: of the input in pixels; None where it is left open.
        width: the same.
        output: name of the output.
        labels: class names from the model's metadata; None where it has none.
        quantized: how the model is quantised already, in words; empty for a float one.

    """

    input: str
    element: str
    layout: str
    height: int | None
    width: int | None
    output: str
    labels: list[str] | None
    quantized: str = ""


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts of ``model``, without running it."""
    del options
    return asdict(inspect(path, load_model(path, Path("model").read_bytes()))), {}


def inspect(path: Path, model: ModelProto) -> GraphFacts:
    """Return what a model takes and gives.

    Raises:
        ConversionError: it is no classifier of one image.

    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    image = _only(path, inputs, "input")
    scores = _only(path, list(model.graph.output), "output")
    shape, element = _shape(path, image), _element(path, image)
    if _element(path, scores) == "uint8":
        raise ConversionError(path, f"its output {scores.name} is uint8, not logits")
    found = find_layout(shape)
    if found is None:
        problem = (
            f"its input {image.name} is {shape}; one image of 3 colours is needed, NCHW or NHWC, "
            "batch 1 or open, or RGBA"
        )
        raise ConversionError(path, problem)
    layout, height, width = found
    labels = read_labels({entry.key: entry.value for entry in model.metadata_props})
    quantized = quantized_form(path, model)
    return GraphFacts(image.name, element, layout, height, width, scores.name, labels, quantized)


def read_labels(metadata: dict[str, str]) -> list[str] | None:
    """Return class names from a model's metadata.

    ``labels`` is a JSON list; ``names`` is what Ultralytics writes, a Python dict by index.
    """
    try:
        if "labels" in metadata:
            found = json.loads(metadata["labels"])
        else:
            names = ast.literal_eval(metadata.get("names", "{}"))
            found = [names[index] for index in range(len(names))]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return None
    return found or None


def _only(path: Path, values: list[ValueInfoProto], kind: str) -> ValueInfoProto:
    if len(values) != 1:
        names = ", ".join(value.name for value in values[:MAX_NAMED]) or "none"
        raise ConversionError(path, f"one {kind} is needed, it has {len(values)}: {names}")
    if not is_printable(values[0].name):
        raise ConversionError(path, f"the name of its {kind} is not printable")
    return values[0]


def _shape(path: Path, value: ValueInfoProto) -> list[int | None]:
    """Return a tensor's shape; None stands for an axis that is left open."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ConversionError(path, f"{value.name} is no tensor with a shape")
    return [
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in tensor.shape.dim
    ]


def _element(path: Path, value: ValueInfoProto) -> str:
    found = value.type.tensor_type.elem_type
    for element, name in ELEMENTS.items():
        if element == found:
            return name
    names = TensorProto.DataType
    name = names.Name(found).lower() if found in names.values() else str(found)
    problem = f"{value.name} is {name}; {', '.join(ELEMENTS.values())} can be imported"
    raise ConversionError(path, problem)
