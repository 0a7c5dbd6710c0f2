# SPDX-License-Identifier: Apache-2.0
"""In the confined child: say what an ONNX model takes and gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from perception_node.engines.importing.head import Head, find_head
from perception_node.engines.importing.labels import labels_in_metadata
from perception_node.engines.importing.layouts import find_layout
from perception_node.engines.importing.loading import load_model
from perception_node.engines.importing.makers.ultralytics import refuse
from perception_node.errors import ConversionError
from perception_node.printable import is_printable

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MAX_NAMED = 5
MAX_METADATA = 4096  # characters of one entry that the parent reads
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
        head: what the output is.

    """

    input: str
    element: str
    layout: str
    height: int | None
    width: int | None
    output: str
    labels: list[str] | None
    head: Head


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts of ``model``, without running it, and its ``metadata``.

    Raises:
        ConversionError: it is no classifier of one image.

    """
    del options
    model = load_model(path, Path("model").read_bytes())
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if problem := refuse(metadata):
        raise ConversionError(path, problem)
    short = {key: value for key, value in metadata.items() if len(value) <= MAX_METADATA}
    return {**asdict(inspect(path, model)), "metadata": short}, {}


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
    labels = labels_in_metadata({entry.key: entry.value for entry in model.metadata_props})
    head = find_head(model.graph, scores.name)
    return GraphFacts(image.name, element, layout, height, width, scores.name, labels, head)


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
