# SPDX-License-Identifier: Apache-2.0
"""The model bundle: a folder that holds all a classifier needs to be run correctly.

::

    efficientnet_lite0/
    ├── bundle.json    how to feed the model and read it; sha256 of every file, itself included
    ├── model.onnx     float32, batch 1
    └── labels.txt     one class name per line, in index order

Preprocessing is data in ``bundle.json``: the node, the command line, calibration and
benchmarks all read the same definition. No file is given to a parser before its sha256 is
checked, on the very bytes that the parser then gets.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perception_node.errors import (
    ConfigError,
    LabelMismatch,
    ModelFormatError,
    ModelIntegrityError,
    quote,
)
from perception_node.model.onnx_file import look_through
from perception_node.model.onnx_tensor import DamagedOnnx, RefusedOnnx
from perception_node.model.sealed_json import BrokenSeal, check_seal, parse, seal
from perception_node.printable import is_printable
from perception_node.system.files import read_regular_file, replace_file
from perception_node.system.json_schema import describe_problem

if TYPE_CHECKING:
    from perception_node.config.sections import Precision

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
LABELS = "labels.txt"
MODEL = "model.onnx"
SCHEMA = Path(__file__).parent / "bundle.schema.json"

MAX_MANIFEST_BYTES = 1 << 20
MAX_LABELS_BYTES = 1 << 20
MAX_RECORD_BYTES = 16 << 20  # of other files: JSON, a calibration cache
MAX_MODEL_BYTES = (2 << 30) - 1  # protobuf's own limit for a file without external data

ColorOrder = Literal["RGB", "BGR"]
ResizeMode = Literal["stretch", "stretch-crop", "shorter-side", "letterbox", "pad-square"]
CROPPING = {"stretch-crop", "shorter-side"}  # these need shorter_side
PADDING = {"letterbox", "pad-square"}  # these need fill
Fill = int | tuple[int, int, int] | Literal["edge"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "bilinear-aliased", "bicubic-aliased"]
ANTIALIASED = {"bilinear", "bicubic"}
OutputKind = Literal["logits", "probabilities", "sigmoid", "sigmoid-logits"]
MULTI_LABEL: tuple[OutputKind, ...] = ("sigmoid", "sigmoid-logits")

MODEL_FILES: dict[Precision, str] = {
    "fp32": MODEL,
    "fp16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
}
MODEL_SUFFIX = ".onnx"
INT8_ON_CPU = "model.int8.cpu.onnx"  # int8 for ONNX Runtime, which wants other types
CALIBRATION = "calibration.json"
ACCURACY = "accuracy.json"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the model's input: ``(pixel * scale - mean) / std`` per channel.

    Attributes:
        color: order of the input's three channels.
        resize: ``stretch`` to the input size; ``stretch-crop``: both sides become
            ``shorter_side`` pixels, then the centre is cropped; ``shorter-side``: the shorter
            side does, then the same; ``letterbox``: the whole image fits inside, ``fill`` around
            it; ``pad-square``: ``fill`` makes it a square, which is stretched.
        shorter_side: pixels before the crop, used by ``CROPPING`` ways only (0 otherwise).
        interpolation: kernel of the last resampling step. ``ANTIALIASED`` ones average all pixels
            of a larger image, as Pillow does; the others look at the nearest, as OpenCV and
            TensorFlow do.
        scale: factor on pixel values 0 to 255.
        mean: three values subtracted after ``scale``, in ``color`` order.
        std: three divisors, in ``color`` order.
        fill: of the border that ``PADDING`` ways add: one pixel value, three in ``color`` order,
            or ``edge``, which repeats the image's outermost pixels.

    """

    color: ColorOrder
    resize: ResizeMode
    shorter_side: int
    interpolation: Interpolation
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: Fill = 0

    def sha256(self) -> str:
        """Return the digest by which verdicts and records of a calibration know it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Input:
    """The model's one input: float32, NCHW, batch 1."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Output:
    """The model's one output, float32 of shape (1, ``classes``).

    Attributes:
        name: of the output in the graph.
        kind: ``logits``, of which a softmax makes probabilities, or logarithms of these;
            ``probabilities``; ``sigmoid``: each class has a score of its own, 0 to 1
            (multi-label); ``sigmoid-logits``: a sigmoid makes these.
        classes: number of classes.
        thresholds: the score that each class must reach; only where scores are independent.

    """

    name: str
    kind: OutputKind
    classes: int
    thresholds: tuple[float, ...] | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether the score of a class says nothing of the others."""
        return self.kind in MULTI_LABEL


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model was quantised before it was imported.

    Attributes:
        form: in words.
        int8_share: part of its multiplications that are int8, 0 to 1.
        no_tensorrt: what TensorRT would refuse, in words; empty if nothing.

    """

    form: str
    int8_share: float
    no_tensorrt: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``bundle.json`` says about the model; file digests are added when it is written.

    Attributes:
        name: a short name, shown in logs and published in ``~/vision_info``.
        license: SPDX identifier of the weights' licence.
        provenance: where the model came from: free JSON for people.
        quantization: of a model that was int8 when it was imported; None for a float model.

    """

    name: str
    license: str
    input: Input
    preprocessing: Preprocessing
    output: Output
    provenance: dict[str, Any]
    quantization: Quantization | None = None

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON; what is newer than the schema's first form is there only if said."""
        record = asdict(self)
        if self.output.thresholds is None:
            del record["output"]["thresholds"]
        if self.quantization is None:
            del record["quantization"]
        return record

    @property
    def smallest_side(self) -> int:
        """Pixels that the shorter side of an image should keep: twice what the model sees."""
        return 2 * max(self.input.height, self.input.width, self.preprocessing.shorter_side)


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A bundle whose manifest and labels were read and checked."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    files: dict[str, str]

    def precision(self, wanted: Precision) -> Precision:
        """Return the precision that the model runs in: one that came as int8 has no other."""
        return wanted if self.manifest.quantization is None else "int8"

    def read(self, name: str = MODEL) -> bytes:
        """Return the bytes of one file of the bundle, checked against its sha256.

        A model is all there is: it needs no other file, and holds what it states.

        Raises:
            ModelFormatError: the bundle has no such file, or it cannot be read, or it is a model
                that would read other files or take memory for what it does not hold.
            ModelIntegrityError: its content is not the one the bundle was made with.

        """
        if not name.endswith(MODEL_SUFFIX):
            return _read_checked(self.path, name, self.files, MAX_RECORD_BYTES)
        content = _read_checked(self.path, name, self.files, MAX_MODEL_BYTES)
        _check_model(self.path / name, content)
        return content


def load_bundle(path: Path) -> ModelBundle:
    """Read and check the manifest and the labels of the bundle in folder ``path``.

    Raises:
        ModelFormatError: a file is missing, unreadable or says something impossible.
        ModelIntegrityError: a file was changed after the bundle was made.
        LabelMismatch: there is not exactly one label per class.

    """
    manifest, files = _read_manifest(path / MANIFEST)
    text = _read_checked(path, LABELS, files, MAX_LABELS_BYTES)
    labels = _parse_labels(path / LABELS, text)
    if len(labels) != manifest.output.classes:
        raise LabelMismatch(path / LABELS, len(labels), manifest.output.classes)
    return ModelBundle(path, manifest, labels, files)


def write_bundle(path: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` for the files that lie in folder ``path``, with their digests.

    Raises:
        ModelFormatError: the model or the labels are missing from the folder.

    """
    files = {
        file.name: hashlib.sha256(_read(file, MAX_MODEL_BYTES)).hexdigest()
        for file in sorted(path.iterdir())
        if file.suffix in {MODEL_SUFFIX, ".txt"}
    }
    for name in (MODEL, LABELS):
        if name not in files:
            raise ModelFormatError(path / name, "missing; a bundle needs it")
    _write_manifest(path, manifest, files)


def add_files(bundle: ModelBundle, contents: dict[str, bytes]) -> ModelBundle:
    """Put files into a bundle, or new content into those it has, and return it as it is then.

    A crash leaves a valid bundle at every moment: what is replaced is first taken off the list.

    Raises:
        ConfigError: the bundle cannot be written, for example because it is the package's own.

    """
    kept = {name: sha256 for name, sha256 in bundle.files.items() if name not in contents}
    added = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    try:
        if kept != bundle.files:
            _write_manifest(bundle.path, bundle.manifest, kept)
        for name, content in contents.items():
            replace_file(bundle.path / name, content)
        _write_manifest(bundle.path, bundle.manifest, {**kept, **added})
    except OSError as error:
        msg = f"{bundle.path}: cannot be written: {error.strerror or error}"
        raise ConfigError(f"{msg}; copy the bundle to a folder of your own") from error
    return load_bundle(bundle.path)


def _write_manifest(path: Path, manifest: Manifest, files: dict[str, str]) -> None:
    data = {"schema_version": SCHEMA_VERSION, **manifest.to_record()}
    data["files"] = dict(sorted(files.items()))
    replace_file(path / MANIFEST, seal(data))


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        return read_regular_file(path, limit_bytes)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise ModelFormatError(path, problem) from error


def _read_checked(folder: Path, name: str, files: dict[str, str], limit_bytes: int) -> bytes:
    path = folder / name
    if name not in files:
        raise ModelFormatError(path, f"not listed in {MANIFEST}")
    content = _read(path, limit_bytes)
    found = hashlib.sha256(content).hexdigest()
    if found != files[name]:
        raise ModelIntegrityError(path, files[name], found)
    return content


def _check_model(path: Path, content: bytes) -> None:
    try:
        seen = look_through(content)
    except (DamagedOnnx, RefusedOnnx) as error:
        raise ModelFormatError(path, str(error)) from error
    if seen.has_functions:
        problem = "it has functions of its own; import it again: perception import"
        raise ModelFormatError(path, problem)


def _read_manifest(path: Path) -> tuple[Manifest, dict[str, str]]:
    content = _read(path, MAX_MANIFEST_BYTES)
    try:
        data = parse(content)
    except ValueError as error:
        raise ModelFormatError(path, f"not JSON: {error}") from error
    if problem := describe_problem(data, SCHEMA):
        raise ModelFormatError(path, problem)
    _check_crop(path, data)
    _check_thresholds(path, data["output"])
    _check_own_digest(path, content, data)
    return _parse_manifest(data), data["files"]


def _check_own_digest(path: Path, content: bytes, data: dict[str, Any]) -> None:
    try:
        check_seal(content, data)
    except UnicodeEncodeError as error:  # half a surrogate pair, as an escape
        problem = f"a text cannot be written as UTF-8: {error.reason}"
        raise ModelFormatError(path, problem) from error
    except BrokenSeal as error:
        raise ModelIntegrityError(path, error.expected, error.found) from error


def _check_crop(path: Path, data: dict[str, Any]) -> None:
    size, preprocessing = data["input"], data["preprocessing"]
    smallest = max(size["height"], size["width"])
    if preprocessing["resize"] in CROPPING and preprocessing["shorter_side"] < smallest:
        problem = f"preprocessing.shorter_side must be at least the input size, {smallest}"
        raise ModelFormatError(path, problem)


def _check_thresholds(path: Path, output: dict[str, Any]) -> None:
    thresholds = output.get("thresholds")
    if thresholds is None:
        return
    if len(thresholds) != output["classes"]:
        problem = f"output.thresholds has {len(thresholds)} values for {output['classes']} classes"
        raise ModelFormatError(path, problem)
    if output["kind"] not in MULTI_LABEL:
        problem = f"output.thresholds is for {' and '.join(MULTI_LABEL)}, not {output['kind']}"
        raise ModelFormatError(path, problem)


def _parse_manifest(data: dict[str, Any]) -> Manifest:
    preprocessing = dict(data["preprocessing"])
    for field in ("mean", "std"):
        preprocessing[field] = tuple(preprocessing[field])
    if isinstance(preprocessing["fill"], list):
        preprocessing["fill"] = tuple(preprocessing["fill"])
    return Manifest(
        name=data["name"],
        license=data["license"],
        input=Input(**_with_whole_numbers(data["input"])),
        preprocessing=Preprocessing(**preprocessing),
        output=_parse_output(data["output"]),
        provenance=data["provenance"],
        quantization=Quantization(**data["quantization"]) if "quantization" in data else None,
    )


def _parse_output(data: dict[str, Any]) -> Output:
    fields = _with_whole_numbers(data)
    thresholds = fields.pop("thresholds", None)
    return Output(**fields, thresholds=None if thresholds is None else tuple(thresholds))


def _with_whole_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn 224.0 into 224: to JSON and its schemas, both are the same integer."""
    return {key: int(v) if isinstance(v, float) else v for key, v in fields.items()}


def _parse_labels(path: Path, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFormatError(path, f"not UTF-8 text: {error}") from error
    labels = tuple(line.strip() for line in text.rstrip().splitlines())
    for number, label in enumerate(labels, start=1):
        if not label or not is_printable(label):
            raise ModelFormatError(path, f"line {number} is not a class name: {quote(label)}")
    return labels
