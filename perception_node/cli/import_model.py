# SPDX-License-Identifier: Apache-2.0
"""``perception import``: an ONNX, PyTorch or Keras file becomes a model bundle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.cli import import_options
from perception_node.cli.int8_report import describe_quantization
from perception_node.config.sections import CameraConfig
from perception_node.engines.importing.importer import UNKNOWN_LICENSE, Order, import_model
from perception_node.model.bundle import PADDING, load_bundle
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model, find_resource
from perception_node.terminal.output import say
from perception_node.terminal.progress import show_work
from perception_node.vision.frame import Unpacker
from perception_node.wire.bags import open_bag
from perception_node.wire.images import COMPRESSED_TYPE, ImageReader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.importing.importer import Imported
    from perception_node.model.bundle import Fill, Manifest, ModelBundle

EXAMPLE = "perception import model.zip -o models/aerial --license CC-BY-4.0"
PHOTOS, PHOTO_SIDE = 4, 480
MAX_SHOWN_LABELS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "model",
        type=Path,
        help="ONNX, TorchScript, .pt2 or .keras file; its folder, or a zip of it",
    )
    parser.add_argument(
        "-o", "--bundle", type=Path, required=True, metavar="BUNDLE", help="folder to make"
    )
    parser.add_argument("--name", default="", help="of the model (default: the bundle's)")
    parser.add_argument(
        "--license", default=UNKNOWN_LICENSE, metavar="SPDX", help="of the weights"
    )
    import_options.add_arguments(parser)
    parser.add_argument(
        "--trust-model",
        default="",
        metavar="SHA256",
        help="run this file of PyTorch or Keras even where the kernel cannot confine its code",
    )
    parser.add_argument(
        "--float-parent",
        metavar="BUNDLE",
        help="of an int8 model: bundle of the float model it was made of, which says what the "
        "file does not, and which the accuracy gate compares it with",
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is there")


def run(arguments: argparse.Namespace) -> int:
    """Import the model and print what was found out about it."""
    use_one_opencv_thread()
    order = Order(
        model=arguments.model,
        bundle=arguments.bundle,
        wishes=import_options.read_wishes(arguments),
        name=arguments.name,
        license=arguments.license,
        float_parent=_parent(arguments.float_parent),
        photos=_read_photos(),
        trust=arguments.trust_model,
        force=arguments.force,
    )
    with show_work(f"importing {arguments.model.name}"):
        imported = import_model(order)
    for line in describe(order, imported):
        say(line)
    return 0


def describe(asked: Order, imported: Imported) -> list[str]:
    """Return the result for people, in lines: every setting, and where it comes from."""
    manifest, choices = imported.manifest, imported.choices
    settings = manifest.preprocessing
    resize = settings.resize.removesuffix("-crop")
    resize += f":{settings.shorter_side}" if settings.shorter_side else ""
    order = ",".join(settings.color)
    values = {
        "size": f"{manifest.input.height}x{manifest.input.width} (height x width)",
        "color": settings.color,
        "resize": resize,
        "interpolation": settings.interpolation,
        "scale": f"{settings.scale:.6g}",
        "mean": f"{order} = {_numbers(settings.mean)}",
        "std": f"{order} = {_numbers(settings.std)}",
        "output": f"{manifest.output.kind}, {manifest.output.classes} classes",
        "labels": _shown_labels(imported.labels),
    }
    if settings.resize in PADDING:
        values["fill"] = _shown_fill(settings.fill, order)
    rows = [f"  {name:<14}{value:<36} ({choices[name].source})" for name, value in values.items()]
    checked = (
        f"  {'checked':<14}largest difference {imported.difference:.1e} "
        f"to the original on {imported.images} images"
    )
    changed = [f"  {'changed':<14}{note}" for note in imported.notes]
    title = f"{asked.model} ({imported.format}) -> {asked.bundle}, {manifest.license}"
    return [title, *rows, *changed, checked, *_describe_int8(asked, manifest)]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _shown_fill(fill: Fill, order: str) -> str:
    return f"{order} = {_numbers(fill)}" if isinstance(fill, tuple) else str(fill)


def _shown_labels(labels: Sequence[str]) -> str:
    repeated = len(labels) - len(set(labels))
    more = ", ..." if len(labels) > MAX_SHOWN_LABELS else ""
    twice = f"; {repeated} of {len(labels)} repeat another" if repeated else ""
    return ", ".join(labels[:MAX_SHOWN_LABELS]) + more + twice


def _describe_int8(order: Order, manifest: Manifest) -> list[str]:
    """Say what a model that came quantised is, and what is to be done."""
    quantization = manifest.quantization
    if quantization is None:
        return []
    lines = [f"  {name:<14}{value}" for name, value in describe_quantization(quantization)]
    compared = "its float parent" if order.float_parent else "itself without its quantisers"
    judge = f"perception evaluate {order.bundle} --images DIR --labels CSV"
    return [*lines, f"it runs once it has been compared with {compared}: {judge}"]


def _parent(name: str | None) -> ModelBundle | None:
    return None if name is None else load_bundle(find_model(name))


def _read_photos() -> list[NDArray[np.uint8]]:
    """Return the photos of the sample bag, uint8 BGR, to check the conversion on."""
    reader = ImageReader("compressed", CameraConfig().max_image_pixels, PHOTO_SIDE)
    unpacker = Unpacker()
    with open_bag(find_resource("samples/photos")) as bag:
        topics = list(bag.select(None, (COMPRESSED_TYPE,)))
        messages = list(bag.messages(topics))
        frames = [reader.read(m.data) for m in messages[:: math.ceil(len(messages) / PHOTOS)]]
        return [unpacker.unpack(frame)[0].copy() for frame in frames]
