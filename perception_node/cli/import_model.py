# SPDX-License-Identifier: Apache-2.0
"""``perception import``: a TorchScript or ONNX file becomes a model bundle."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.cli.int8_report import describe_quantization
from perception_node.config.sections import CameraConfig
from perception_node.engines.importing.importer import UNKNOWN_LICENSE, Order, import_model
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConfigError
from perception_node.model.bundle import load_bundle
from perception_node.system.files import read_regular_file
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model, find_resource
from perception_node.terminal.output import say
from perception_node.terminal.progress import show_work
from perception_node.vision.frame import Unpacker
from perception_node.wire.bags import open_bag
from perception_node.wire.images import COMPRESSED_TYPE, ImageReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.importing.importer import Imported
    from perception_node.model.bundle import Manifest, ModelBundle

EXAMPLE = "perception import model.zip -o models/aerial --license CC-BY-4.0"
MAX_LABELS_BYTES = 1 << 20
PHOTOS, PHOTO_SIDE = 4, 480
MAX_SHOWN_LABELS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("model", type=Path, help="TorchScript archive or ONNX file")
    parser.add_argument(
        "-o", "--bundle", type=Path, required=True, metavar="BUNDLE", help="folder to make"
    )
    parser.add_argument("--name", default="", help="of the model (default: the bundle's)")
    parser.add_argument(
        "--license", default=UNKNOWN_LICENSE, metavar="SPDX", help="of the weights"
    )
    about = parser.add_argument_group("about the model, where it does not say it itself")
    about.add_argument("--labels", type=Path, metavar="FILE", help="one class name per line")
    about.add_argument("--mean", type=_three, metavar="R,G,B", help="subtracted; or one number")
    about.add_argument("--std", type=_three, metavar="R,G,B", help="divisors; or one number")
    about.add_argument("--scale", type=_positive, metavar="S", help="factor on pixels, first")
    about.add_argument("--size", type=_size, metavar="HxW", help="pixels of the input")
    about.add_argument("--color", choices=("RGB", "BGR"), help="order of the channels")
    about.add_argument(
        "--resize", type=_resize, metavar="HOW", help="stretch, shorter-side:N or letterbox"
    )
    about.add_argument("--interpolation", choices=("bilinear", "bicubic"))
    about.add_argument("--output", choices=("logits", "probabilities"))
    parser.add_argument(
        "--trust-model",
        default="",
        metavar="SHA256",
        help="run this TorchScript file even where the kernel cannot confine its code",
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
        wishes=_wishes(arguments),
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


def describe(order: Order, imported: Imported) -> list[str]:
    """Return the result for people, in lines: every setting, and where it comes from."""
    manifest, choices = imported.manifest, imported.choices
    settings = manifest.preprocessing
    resize = settings.resize + (f":{settings.shorter_side}" if settings.shorter_side else "")
    shown = ", ".join(imported.labels[:MAX_SHOWN_LABELS])
    more = ", ..." if len(imported.labels) > MAX_SHOWN_LABELS else ""
    values = {
        "size": f"{manifest.input.height}x{manifest.input.width} (height x width)",
        "color": settings.color,
        "resize": resize,
        "interpolation": settings.interpolation,
        "scale": f"{settings.scale:.6g}",
        "mean": ", ".join(f"{value:g}" for value in settings.mean),
        "std": ", ".join(f"{value:g}" for value in settings.std),
        "output": f"{manifest.output.kind}, {manifest.output.classes} classes",
        "labels": shown + more,
    }
    rows = [f"  {name:<14}{value:<32} ({choices[name].source})" for name, value in values.items()]
    checked = (
        f"  {'checked':<14}largest difference {imported.difference:.1e} "
        f"to the original on {imported.images} images"
    )
    title = f"{order.model} ({imported.format}) -> {order.bundle}, {manifest.license}"
    return [title, *rows, checked, *_describe_int8(order, manifest)]


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


def _wishes(arguments: argparse.Namespace) -> Wishes:
    mode, shorter_side = arguments.resize or (None, 0)
    return Wishes(
        size=arguments.size,
        color=arguments.color,
        resize=mode,
        shorter_side=shorter_side,
        interpolation=arguments.interpolation,
        scale=arguments.scale,
        mean=arguments.mean,
        std=arguments.std,
        output=arguments.output,
        labels=None if arguments.labels is None else _read_labels(arguments.labels),
    )


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        text = read_regular_file(path, MAX_LABELS_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}") from error
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _read_photos() -> list[NDArray[np.uint8]]:
    """Return the photos of the sample bag, uint8 BGR, to check the conversion on."""
    reader = ImageReader("compressed", CameraConfig().max_image_pixels, PHOTO_SIDE)
    unpacker = Unpacker()
    with open_bag(find_resource("samples/photos")) as bag:
        topics = list(bag.select(None, (COMPRESSED_TYPE,)))
        messages = list(bag.messages(topics))
        frames = [reader.read(m.data) for m in messages[:: math.ceil(len(messages) / PHOTOS)]]
        return [unpacker.unpack(frame)[0].copy() for frame in frames]


def _three(text: str) -> tuple[float, float, float]:
    values = [_number(part) for part in text.split(",")]
    values *= 3 if len(values) == 1 else 1
    if len(values) != len("RGB") or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers R,G,B, nor one")
    first, second, third = values
    return first, second, third


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _number(text: str) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError as error:
        msg = f"{text!r} is not HxW in pixels, such as 224x224"
        raise argparse.ArgumentTypeError(msg) from error


def _resize(text: str) -> tuple[Any, int]:
    mode, _, side = text.partition(":")
    needs_side = mode == "shorter-side"
    if mode not in {"stretch", "shorter-side", "letterbox"} or needs_side != side.isdecimal():
        msg = f"{text!r} is not stretch, shorter-side:N (pixels) or letterbox"
        raise argparse.ArgumentTypeError(msg)
    return mode, int(side or 0)
