# SPDX-License-Identifier: Apache-2.0
"""Lead a model file through the import: recognise, check, convert, compare, write the bundle."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.engines.importing.check_images import NOISE_IMAGES
from perception_node.engines.importing.export.exporters import EXPORTERS, export_model
from perception_node.engines.importing.files.apart import take_apart
from perception_node.engines.importing.files.filetypes import recognise
from perception_node.engines.importing.files.source import open_source
from perception_node.engines.importing.new_bundle import check_target, write_new_bundle
from perception_node.engines.importing.opening import (
    Opened,
    open_graph,
    open_script,
    require,
)
from perception_node.engines.importing.output_kind import (
    settle_kind,
    settle_thresholds,
)
from perception_node.engines.importing.sandbox.confinement import Limits
from perception_node.engines.importing.sandbox.sandbox import Sandbox, temporary_folder
from perception_node.engines.importing.settings import Choice, Known, Wishes
from perception_node.errors import ConversionError, LabelMismatch
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
from perception_node.printable import printable
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.importing.files.filetypes import Format
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
            source = open_script(order, sandbox, content, folder)
        else:
            versions: dict[str, str] = {}
            if kind != "ONNX":
                require(path, *EXPORTERS[kind].packages)
                content, versions = export_model(path, sandbox, kind, content, order.wishes.size)
            model = take_apart(path, content, folder, is_whole=kind != "ONNX")
            del content  # a large model must not lie here and in the child
            source = open_graph(order, sandbox, model, versions)
        return _convert(order, sandbox, source, provenance)


def _read(path: Path) -> bytes:
    try:
        return read_regular_file(path, MAX_MODEL_BYTES)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise ConversionError(path, problem) from error


def _convert(
    order: Order, sandbox: Sandbox, source: Opened, provenance: dict[str, Any]
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
    _check_difference(order, facts)
    kind = settle_kind(order.model, known, source.graph, facts, order.wishes.command)
    choices = {**source.settings.choices, "output": kind}
    if source.labels is not None:
        choices["labels"] = Choice(len(labels), source.labels.source)
    if len(labels) != facts["classes"]:
        raise LabelMismatch(order.model, len(labels), int(facts["classes"]))
    notes = tuple(printable(str(note)) for note in (*source.graph["notes"], *facts["notes"]))
    provenance = {
        **provenance,
        "settings": {name: choice.source for name, choice in choices.items()},
        **({"changed": list(notes)} if notes else {}),
    }
    manifest = _describe(order, source, facts, kind, provenance)
    models = {
        FILES[name]: source.model.join(order.model, blob)
        for name, blob in answer.blobs.items()
        if name in FILES
    }
    write_new_bundle(order.bundle, manifest, labels, models, force=order.force)
    format_: Format = provenance["format"]
    images, difference = _images(order), float(facts["difference"])
    return Imported(format_, manifest, labels, choices, images, difference, notes)


def _images(order: Order) -> int:
    """Return on how many images original and result are compared."""
    return NOISE_IMAGES + len(order.photos)


def _check_difference(order: Order, facts: dict[str, Any]) -> None:
    difference, limit = float(facts["difference"]), float(facts["tolerance"])
    if not difference <= limit:
        problem = (
            f"as ONNX its output differs by {difference:.1e} on one of {_images(order)} images, "
            f"more than {limit:.1e}; the conversion cannot be trusted"
        )
        raise ConversionError(order.model, problem)


def _describe(
    order: Order, source: Opened, facts: dict[str, Any], kind: Choice, provenance: dict[str, Any]
) -> Manifest:
    """Return the bundle's manifest; ``facts`` are those of the conversion."""
    classes, (height, width) = int(facts["classes"]), source.settings.size
    thresholds = settle_thresholds(order.model, order.wishes.thresholds, kind.value, classes)
    return Manifest(
        name=order.name or _name(order.bundle),
        license=_license(order, source.known),
        input=Input(str(facts["input"]), height, width),
        preprocessing=source.settings.preprocessing,
        output=Output(str(facts["output"]), kind.value, classes, thresholds),
        provenance={
            **provenance,
            **({"external_data": beside} if (beside := source.model.external_data) else {}),
            **({"float_parent": parent.files[MODEL]} if (parent := order.float_parent) else {}),
            "imported_by": f"perception_node {__version__}",
            **source.versions,
            "checked": {"images": _images(order), "largest_difference": facts["difference"]},
        },
        quantization=Quantization(**facts["quantization"]) if "quantization" in facts else None,
    )


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
