# SPDX-License-Identifier: Apache-2.0
"""Lead a model file through the import: recognise, check, convert, compare, write the bundle."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.engines.importing.apart import take_apart
from perception_node.engines.importing.archive import check_archive, read_extra_files
from perception_node.engines.importing.check_images import NOISE_IMAGES, prepare_images
from perception_node.engines.importing.confinement import Limits
from perception_node.engines.importing.exporters import EXPORTERS, export_model, read_versions
from perception_node.engines.importing.filetypes import recognise
from perception_node.engines.importing.makers import read_makers
from perception_node.engines.importing.makers.evidence import Evidence
from perception_node.engines.importing.new_bundle import check_target, write_new_bundle
from perception_node.engines.importing.output_kind import (
    settle_kind,
    settle_thresholds,
)
from perception_node.engines.importing.sandbox import Sandbox, temporary_folder
from perception_node.engines.importing.settings import (
    SAID,
    Choice,
    Known,
    Settings,
    Wishes,
    settle_graph,
    settle_script,
)
from perception_node.engines.importing.source import open_source
from perception_node.errors import (
    ConversionError,
    EnvironmentLacks,
    LabelMismatch,
    quote,
)
from perception_node.installing import install_command
from perception_node.model.bundle import (
    INT8_ON_CPU,
    MAX_MODEL_BYTES,
    MODEL,
    MODEL_FILES,
    Input,
    Manifest,
    Output,
    Quantization,
)
from perception_node.printable import is_printable, printable
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.importing.apart import Parts
    from perception_node.engines.importing.filetypes import Format
    from perception_node.model.bundle import ModelBundle

FILES = {"model": MODEL, "cpu": INT8_ON_CPU, "tensorrt": MODEL_FILES["int8"]}  # of a bundle
UNKNOWN_LICENSE = "LicenseRef-unknown"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be imported, and how.

    Attributes:
        model: the file, a folder with it, or a zip archive of one.
        bundle: the folder to make.
        wishes: what the user says of the model.
        name: of the model; empty for the name of the bundle's folder.
        license: SPDX identifier of the weights' licence.
        float_parent: bundle of the float model that an int8 model was made of, if there is one.
        photos: uint8 BGR images of shape (height, width, 3), to check the conversion on.
        trust: sha256 of a file whose code may run where this kernel cannot confine it, or empty.
        force: replace a bundle that is there.
        limits: for each of the child processes.
        beside: small files that lie beside the model, by name; ``import_model`` looks for them.

    """

    model: Path
    bundle: Path
    wishes: Wishes = field(default_factory=Wishes)
    name: str = ""
    license: str = UNKNOWN_LICENSE
    float_parent: ModelBundle | None = None
    photos: Sequence[NDArray[np.uint8]] = ()
    trust: str = ""
    force: bool = False
    limits: Limits = field(default_factory=Limits)
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a model file.

    Attributes:
        format: what the file was.
        manifest: as written into the bundle.
        labels: one per class.
        choices: every setting with its source.
        images: number of images that were compared.
        difference: largest absolute difference of an output value to the original model's.
        notes: what was changed of the graph and how, each in a line.

    """

    format: Format
    manifest: Manifest
    labels: tuple[str, ...]
    choices: dict[str, Choice]
    images: int
    difference: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """The model on its way: what its conversion reads, and what the file itself says."""

    model: Parts
    files: dict[str, bytes]
    graph: dict[str, Any]
    labels: Choice | None
    settings: Settings
    known: Known
    versions: dict[str, str]


def import_model(order: Order) -> Imported:
    """Make a bundle of a model file; nothing is written before everything has been checked.

    Raises:
        ConversionError: the file is refused, something must be said, or the ONNX model differs
            from the original by more than rounding can explain.
        LabelMismatch: there is not exactly one label per class.
        ConfigError: the bundle's folder is taken or cannot be written.
        EnvironmentLacks: a package is missing, or this kernel cannot confine the model's code.

    """
    check_target(order.bundle, force=order.force)
    with open_source(order.model) as found:
        return _import(replace(order, model=found.model, beside=found.sidecars))


def _import(order: Order) -> Imported:
    path = order.model
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    if order.trust and order.trust.lower() != digest:
        raise ConversionError(path, f"its sha256 is {digest}, not the one of --trust-model")
    kind = recognise(path, content)
    provenance = {"file": _text(path.name), "sha256": digest, "format": kind}
    sandbox = Sandbox(path, order.limits, trusted=bool(order.trust))
    with temporary_folder() as folder:
        if kind == "TorchScript":
            source = _open_script(order, sandbox, content, folder)
        else:
            versions: dict[str, str] = {}
            if kind != "ONNX":
                _require(path, *EXPORTERS[kind].packages)
                content, versions = export_model(path, sandbox, kind, content, order.wishes.size)
            model = take_apart(path, content, folder, is_whole=kind != "ONNX")
            del content  # a large model must not lie here and in the child
            source = _open_graph(order, sandbox, model, versions)
        return _convert(order, sandbox, source, provenance)


def _read(path: Path) -> bytes:
    try:
        return read_regular_file(path, MAX_MODEL_BYTES)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise ConversionError(path, problem) from error


def _open_script(order: Order, sandbox: Sandbox, content: bytes, folder: Path) -> _Source:
    check_archive(order.model, content)
    _require(order.model, "torch", "onnx")
    script = sandbox.run("inspect-torchscript", {"model": content}, {}, runs_code=True).facts
    extra = read_extra_files(content)
    has_labels = bool(script["labels"])
    known = _ask_makers(order, Evidence({**order.beside, **extra}, has_labels=has_labels))
    labels = _labels(order, known, script["labels"], "its attribute labels")
    missing, of_images = _missing(labels), _of_images(known)
    settings = settle_script(order.model, order.wishes, script, of_images, missing)
    images = prepare_images(settings, order.photos)
    files = {"model": content, "images": images}
    answer = sandbox.run("export-torchscript", files, {}, runs_code=True)
    if not {"model", "outputs"} <= answer.blobs.keys():
        raise ConversionError(order.model, "its conversion gave no model; the file is hostile")
    model = take_apart(order.model, answer.blobs["model"], folder, is_whole=True)
    graph = sandbox.run("inspect-onnx", model.files, {}).facts
    del graph["metadata"]  # ours, of the export
    files = {"images": images, "outputs": answer.blobs["outputs"]}
    return _Source(model, files, graph, labels, settings, known, read_versions(answer.facts))


def _open_graph(order: Order, sandbox: Sandbox, model: Parts, versions: dict[str, str]) -> _Source:
    _require(order.model, "onnx")
    parent = order.float_parent
    if parent is not None:
        order = replace(order, wishes=order.wishes.or_those_of(parent))
    graph = sandbox.run("inspect-onnx", model.files, _inspection(order)).facts
    if parent is not None and not graph["quantized"]:
        raise ConversionError(order.model, "it is a float model; leave out --float-parent")
    size = (graph["height"], graph["width"])
    evidence = Evidence(
        order.beside,
        graph.pop("metadata"),
        None if None in size else size,
        has_labels=bool(graph["labels"]),
    )
    known = _ask_makers(order, evidence)
    labels = _labels(order, known, graph["labels"], str(graph["labels_source"]))
    is_kind_open = graph["head"][0] is None and "output" not in known
    later = ["output"] if is_kind_open and "output_name" not in graph["questions"] else []
    missing, of_images = _missing(labels), _of_images(known)
    settings = settle_graph(order.model, order.wishes, graph, of_images, missing, later)
    images = prepare_images(settings, order.photos)
    files = {"images": images} if parent is None else {"images": images, "parent": parent.read()}
    return _Source(model, files, graph, labels, settings, known, versions)


def _ask_makers(order: Order, evidence: Evidence) -> Known:
    """Return what the makers say, and what the user says of the output before them."""
    known = read_makers(order.model, evidence, order.wishes)
    if order.wishes.output is not None:
        known["output"] = Choice(order.wishes.output, SAID)
    return known


def _of_images(known: Known) -> Known:
    """Return what goes into the preprocessing."""
    others = ("output", "labels", "license")
    return {name: choice for name, choice in known.items() if name not in others}


def _inspection(order: Order) -> dict[str, Any]:
    """Return the options of the step that inspects a graph."""
    wishes = order.wishes
    beside = read_makers(order.model, Evidence(order.beside, has_labels=True), wishes)
    labels = wishes.labels or (beside["labels"].value if "labels" in beside else ())
    return {
        "output": wishes.output_name,
        "classes": len(labels) or None,
        "fixed": wishes.fixed_inputs,
        "layout": wishes.layout,
    }


def _require(path: Path, *packages: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        problem = f"{path}: to import it, Python needs {', '.join(missing)}"
        only = " (only the import of PyTorch's own files needs it)" if "torch" in missing else ""
        raise EnvironmentLacks(problem, f"run: {install_command(*missing)}{only}")


def _missing(labels: Choice | None) -> list[str]:
    """Return the settings beside those of images that must be asked for."""
    return [] if labels else ["labels"]


def _labels(order: Order, known: Known, found: object, source: str) -> Choice | None:
    """Return the class names: the user's, the maker's or the model's, each one line."""
    if order.wishes.labels is not None:
        choice = Choice(order.wishes.labels, SAID)
    elif "labels" in known:
        choice = known["labels"]
    elif isinstance(found, list) and found and all(isinstance(label, str) for label in found):
        choice = Choice(tuple(label.strip() for label in found), source)
    else:
        return None
    for number, label in enumerate(choice.value, start=1):
        if not label or not is_printable(label):
            raise ConversionError(order.model, f"label {number} is no class name: {quote(label)}")
    return choice


def _convert(
    order: Order, sandbox: Sandbox, source: _Source, provenance: dict[str, Any]
) -> Imported:
    labels: tuple[str, ...] = source.labels.value if source.labels is not None else ()
    known = source.known.get("output")
    options = {
        "graph": source.graph,
        "size": source.settings.size,
        "color": source.settings.preprocessing.color,
        "kind": known.value if known else source.graph["head"][0],
        "labels": len(labels),
    }
    answer = sandbox.run("convert-onnx", {**source.model.files, **source.files}, options)
    facts = answer.facts
    difference, images = float(facts["difference"]), NOISE_IMAGES + len(order.photos)
    limit = float(facts["tolerance"])
    if not difference <= limit:
        problem = (
            f"as ONNX its output differs by {difference:.1e} on one of {images} images, "
            f"more than {limit:.1e}; the conversion cannot be trusted"
        )
        raise ConversionError(order.model, problem)
    kind = settle_kind(order.model, known, source.graph, facts, order.wishes.command)
    choices = {**source.settings.choices, "output": kind}
    if source.labels is not None:
        choices["labels"] = Choice(len(labels), source.labels.source)
    if len(labels) != facts["classes"]:
        raise LabelMismatch(order.model, len(labels), int(facts["classes"]))
    thresholds = settle_thresholds(order.model, order.wishes.thresholds, kind.value, len(labels))
    height, width = source.settings.size
    notes = tuple(printable(str(note)) for note in (*source.graph["notes"], *facts["notes"]))
    manifest = Manifest(
        name=order.name or _name(order.bundle),
        license=_license(order, source.known),
        input=Input(str(facts["input"]), height, width),
        preprocessing=source.settings.preprocessing,
        output=Output(str(facts["output"]), kind.value, len(labels), thresholds),
        provenance={
            **provenance,
            **({"external_data": beside} if (beside := source.model.external_data) else {}),
            "imported_by": f"perception_node {__version__}",
            **source.versions,
            "settings": {name: choice.source for name, choice in choices.items()},
            **({"changed": list(notes)} if notes else {}),
            "checked": {"images": images, "largest_difference": difference},
        },
        quantization=Quantization(**facts["quantization"]) if "quantization" in facts else None,
    )
    models = {
        FILES[name]: source.model.join(order.model, blob)
        for name, blob in answer.blobs.items()
        if name in FILES
    }
    write_new_bundle(order.bundle, manifest, labels, models, force=order.force)
    format_: Format = provenance["format"]
    return Imported(format_, manifest, labels, choices, images, difference, notes)


def _license(order: Order, known: Known) -> str:
    if order.license == UNKNOWN_LICENSE and "license" in known:
        return str(known["license"].value)
    return order.license


def _text(name: str) -> str:
    """Return a file's name as text: it need not be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _name(path: Path) -> str:
    """Make a model's name of a folder's."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.name).lstrip("_.-")[:64]
    return name or "model"
