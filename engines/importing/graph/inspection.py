# SPDX-License-Identifier: Apache-2.0
"""In the confined child: say what an ONNX model takes and gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from perception_node.engines.importing.graph.alpha import drops_alpha
from perception_node.engines.importing.graph.dequantized import to_float
from perception_node.engines.importing.graph.doubles import has_doubles
from perception_node.engines.importing.graph.findings import Findings
from perception_node.engines.importing.graph.head import Head, find_head
from perception_node.engines.importing.graph.inputs import choose_image
from perception_node.engines.importing.graph.int8_models import said_of, with_weights
from perception_node.engines.importing.graph.label_maps import cut_label_maps
from perception_node.engines.importing.graph.layouts import LAYOUTS, find_layout
from perception_node.engines.importing.graph.loading import check_operators, load_model
from perception_node.engines.importing.graph.narrowing import narrow
from perception_node.engines.importing.graph.open_channels import find_open_layout
from perception_node.engines.importing.graph.outputs import choose_output
from perception_node.engines.importing.graph.quantized import quantized_form, to_pairs
from perception_node.engines.importing.labels import labels_in_metadata
from perception_node.engines.importing.makers.ultralytics import refuse
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MAX_METADATA = 4096  # characters of one entry that the parent reads
MAX_BATCH = 256
ELEMENTS = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a graph takes and gives.

    Attributes:
        input: name of the input that takes the image.
        element: element type of the input, a value of ``ELEMENTS``.
        layout: order of the input's axes, a key of ``layouts.LAYOUTS``.
        height: of the input in pixels; None where it is left open.
        width: the same.
        batch: number of images that it takes at once.
        output: name of the tensor that holds the scores.
        fixed: values of its other inputs, by name.
        labels: class names from the model's metadata or its end; None where it has none.
        labels_source: where they are.
        head: what the scores are.
        notes: what is changed of the graph and how, each in a line.
        questions: what must be said before the facts can be used, see ``Findings``.
        quantized: how the model is quantised already, in words; empty for a float one.

    """

    input: str
    element: str
    layout: str
    height: int | None
    width: int | None
    batch: int
    output: str
    fixed: dict[str, float]
    labels: list[str] | None
    labels_source: str
    head: Head
    notes: list[str]
    questions: dict[str, str]
    quantized: str = ""


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts of ``model``, a ``GraphFacts``, and its ``metadata``, without running it.

    See ``inspect`` for the options.

    Raises:
        ConversionError: it is no classifier of one image, or an option does not fit it.

    """
    findings = Findings()
    model = load_model(path, Path("model").read_bytes(), findings.notes)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if problem := refuse(metadata):
        raise ConversionError(path, problem)
    short = {key: value for key, value in metadata.items() if len(value) <= MAX_METADATA}
    return {**asdict(inspect(path, model, options, findings)), "metadata": short}, {}


def inspect(
    path: Path, model: ModelProto, options: dict[str, Any], findings: Findings
) -> GraphFacts:
    """Return what a model takes and gives; ``model`` is left with what the scores need.

    The options are what the user said, each may be absent: ``output``, the name of the tensor
    with the scores; ``classes``, the number of labels; ``fixed``, values of inputs by name;
    ``layout``, a key of ``layouts.LAYOUTS``. ``findings`` may hold notes already; where it has
    questions then, some of the facts are guessed.

    Raises:
        ConversionError: it is no classifier of one image, or an option does not fit it.

    """
    named = cut_label_maps(model.graph, findings.notes)
    labels = named or labels_in_metadata(
        {entry.key: entry.value for entry in model.metadata_props}
    )
    classes = options.get("classes") or (len(labels) if labels else None)
    output = choose_output(path, model, options.get("output") or "", classes, findings)
    narrow(model, output)
    check_operators(path, model.graph)
    quantized = quantized_form(path, model)
    image, fixed = choose_image(path, model, options.get("fixed") or {}, findings)
    wish = options.get("layout") or ""
    layout, batch, height, width = _read_shape(path, model, image, wish, findings)
    kind = LAYOUTS[layout]
    if kind.alpha and not wish and not drops_alpha(model, image.name, kind):
        problem = "its input has 4 channels, and the graph does not leave out the fourth itself"
        advice = f"export it with 3 channels, or give --layout {layout} if it takes RGBA pixels"
        raise ConversionError(path, f"{problem}; {advice}")
    if kind.channels == 1:
        findings.notes.append("input of one channel: grey is made of the colours (ITU-R BT.601)")
    if has_doubles(model.graph):
        findings.notes.append("float64 is computed in float32")
    return GraphFacts(
        input=image.name,
        element=_element(path, image),
        layout=layout,
        height=height,
        width=width,
        batch=batch,
        output=output,
        fixed=fixed,
        labels=labels,
        labels_source="its ZipMap" if named else "its metadata",
        head=_find_head(path, model, output, quantized),
        notes=findings.notes,
        questions=findings.questions,
        quantized=quantized,
    )


def _find_head(path: Path, model: ModelProto, output: str, quantized: str) -> Head:
    """Return what the scores are; where integers hide it, what they are without quantisers."""
    head = find_head(model.graph, output)
    if head.kind is not None or not quantized:
        return head
    try:
        with said_of(path):
            bare = to_float(path, to_pairs(path, with_weights(model)))
    except ConversionError:  # its float parent may be at hand
        return head
    return find_head(bare.graph, output)._replace(rounded=True)


def _read_shape(
    path: Path, model: ModelProto, image: ValueInfoProto, wish: str, findings: Findings
) -> tuple[str, int, int | None, int | None]:
    """Return layout, batch, height and width of the input."""
    shape = _shape(path, image)
    found = find_layout(shape, wish)
    is_open = found is None and not wish and len(shape) == 4 and None in (shape[1], shape[3])
    if is_open and (layout := find_open_layout(model.graph, image.name)):
        found = find_layout(shape, layout)
    elif is_open:
        findings.questions["layout"] = "LAYOUT: NCHW or NHWC, the channels are left open"
        found = find_layout(shape, "NCHW") or find_layout(shape, "NHWC")
    if found is None:
        problem = _describe_shape(image.name, shape)
        if wish:
            problem = f"its input {image.name} is {_show(shape)}, not {wish}; correct --layout"
        raise ConversionError(path, problem)
    layout, height, width = found
    batch = (shape[0] if LAYOUTS[layout].batched else None) or 1
    if batch > MAX_BATCH:
        problem = f"its input {image.name} takes {batch} images at once; export it with batch 1"
        raise ConversionError(path, problem)
    return layout, batch, height, width


def _describe_shape(name: str, shape: list[int | None]) -> str:
    return (
        f"its input {name} is {_show(shape)}; images of 3 colours (or grey, or RGBA) are needed, "
        "NCHW or NHWC; export it with such an input"
    )


def _show(shape: list[int | None]) -> str:
    return f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]"


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
    problem = f"its input {value.name} is {name}; {', '.join(ELEMENTS.values())} can be imported"
    raise ConversionError(path, f"{problem}; export it with a float32 input")
