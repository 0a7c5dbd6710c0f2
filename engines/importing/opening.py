# SPDX-License-Identifier: Apache-2.0
"""Open a model: ask the file, its maker and the user for all that its conversion needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.check_images import prepare_images
from perception_node.engines.importing.export.exporters import read_versions
from perception_node.engines.importing.files.apart import take_apart
from perception_node.engines.importing.files.archive import check_archive, read_extra_files
from perception_node.engines.importing.makers import read_makers
from perception_node.engines.importing.makers.evidence import Evidence
from perception_node.engines.importing.settings import (
    SAID,
    Choice,
    Known,
    Settings,
    settle_graph,
    settle_script,
)
from perception_node.errors import ConversionError, EnvironmentLacks, quote
from perception_node.installing import install_command
from perception_node.printable import is_printable

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.engines.importing.files.apart import Parts
    from perception_node.engines.importing.importer import Order
    from perception_node.engines.importing.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Opened:
    """A model on its way.

    Attributes:
        model: what a child reads of it.
        files: images to compare on, and what the original gives for them where it is no ONNX.
        graph: what ``inspect-onnx`` has found.
        labels: class names; None where there are none.
        settings: how images are prepared.
        known: what the maker and the user say of it.
        versions: of the packages that have exported the model, by name.

    """

    model: Parts
    files: dict[str, bytes]
    graph: dict[str, Any]
    labels: Choice | None
    settings: Settings
    known: Known
    versions: dict[str, str]


def open_script(order: Order, sandbox: Sandbox, content: bytes, folder: Path) -> Opened:
    """Export a TorchScript module to ONNX, and return that.

    Raises:
        ConversionError: it cannot be exported, or something must be said.
        EnvironmentLacks: a package is missing, or this kernel cannot confine the model's code.

    """
    check_archive(order.model, content)
    require(order.model, "torch", "onnx")
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
    return Opened(model, files, graph, labels, settings, known, read_versions(answer.facts))


def open_graph(order: Order, sandbox: Sandbox, model: Parts, versions: dict[str, str]) -> Opened:
    """Return an ONNX model with all that is known of it.

    Raises:
        ConversionError: it is no classifier of images, or something must be said.
        EnvironmentLacks: a package is missing.

    """
    require(order.model, "onnx")
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
    return Opened(model, files, graph, labels, settings, known, versions)


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


def require(path: Path, *packages: str) -> None:
    """Require Python packages to be installed.

    Raises:
        EnvironmentLacks: some are not; the message has the command that installs them.

    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        problem = f"{path}: to import it, Python needs {', '.join(missing)}"
        only = (
            " (only the import of files of PyTorch and Keras needs it)"
            if "torch" in missing
            else ""
        )
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
