# SPDX-License-Identifier: Apache-2.0
"""``perception import``: an ONNX, PyTorch or Keras file becomes a model bundle."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from perception_node.cli.int8_report import describe_quantization
from perception_node.config.sections import CameraConfig
from perception_node.engines.importing.graph.layouts import LAYOUTS
from perception_node.engines.importing.importer import UNKNOWN_LICENSE, Order, import_model
from perception_node.engines.importing.labels import LABEL_FORMS, find_labels
from perception_node.engines.importing.presets import PRESETS
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConfigError
from perception_node.model.bundle import PADDING, Interpolation, OutputKind, load_bundle
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model, find_resource
from perception_node.terminal.output import say
from perception_node.terminal.progress import show_work
from perception_node.vision.frame import Unpacker
from perception_node.wire.bags import open_bag
from perception_node.wire.images import COMPRESSED_TYPE, ImageReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.importing.importer import Imported
    from perception_node.model.bundle import Fill, Manifest, ModelBundle, ResizeMode

EXAMPLE = "perception import model.zip -o models/aerial --license CC-BY-4.0"
PHOTOS, PHOTO_SIDE = 4, 480
MAX_SHOWN_LABELS = 3
MAX_PIXEL = 255
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
RESIZE_FORMS = "stretch, stretch:N then crop, shorter-side:N then crop, letterbox or pad-square"
RESIZE_MODES: dict[str, ResizeMode] = {
    "stretch": "stretch",
    "stretch:N": "stretch-crop",
    "shorter-side": "shorter-side",
    "shorter-side:N": "shorter-side",
    "letterbox": "letterbox",
    "pad-square": "pad-square",
}


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
    about = parser.add_argument_group("about the model, where it does not say it itself")
    about.add_argument("--labels", metavar="FILE", help=f"{LABEL_FORMS}; or names: no,yes")
    about.add_argument("--preset", choices=tuple(PRESETS), help="answers for a family of models")
    about.add_argument("--size", type=_size, metavar="HxW", help="pixels of the input")
    about.add_argument("--color", choices=("RGB", "BGR"), help="order of the channels")
    about.add_argument("--resize", type=_resize, metavar="HOW", help=RESIZE_FORMS)
    about.add_argument(
        "--crop-pct", type=_part, metavar="P", help="part of the side that the crop keeps: 0.875"
    )
    about.add_argument("--output-name", default="", metavar="NAME", help="tensor of the scores")
    about.add_argument(
        "--fix-input",
        type=_named_number,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="number for an input that takes no image, such as keep_prob=1",
    )
    about.add_argument(
        "--layout", choices=tuple(LAYOUTS), default="", help="order of the input's axes"
    )
    about.add_argument(
        "--fill",
        type=_fill,
        metavar="V",
        help="fills the border: 0 to 255, three in order, or edge",
    )
    about.add_argument(
        "--interpolation",
        type=_interpolation,
        metavar="KIND",
        help=f"{', '.join(INTERPOLATIONS)} (aliased: as OpenCV and TensorFlow resize)",
    )
    about.add_argument(
        "--mean",
        type=_three,
        metavar="M,M,M",
        help="subtracted: three in the order of --color (with BGR: blue first), or one",
    )
    about.add_argument("--std", type=_three, metavar="S,S,S", help="divisors, in the same order")
    about.add_argument("--scale", type=_positive, metavar="S", help="factor on pixels, first")
    about.add_argument(
        "--output",
        choices=get_args(OutputKind),
        help="the scores: logits or probabilities of one class of all, or a sigmoid of each class",
    )
    about.add_argument(
        "--thresholds",
        type=_scores,
        metavar="T,T,...",
        help="with sigmoid scores: what each class must reach, 0 to 1; or one number for all",
    )
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


def _wishes(arguments: argparse.Namespace) -> Wishes:
    mode, shorter_side = arguments.resize or (None, 0)
    if mode == "shorter-side" and not (shorter_side or arguments.crop_pct):
        raise ConfigError(
            "argument --resize: 'shorter-side' needs pixels, shorter-side:N, or --crop-pct"
        )
    return Wishes(
        size=arguments.size,
        color=arguments.color,
        resize=mode,
        shorter_side=shorter_side,
        crop_pct=arguments.crop_pct,
        interpolation=arguments.interpolation,
        scale=arguments.scale,
        mean=arguments.mean,
        std=arguments.std,
        fill=arguments.fill,
        output=arguments.output,
        labels=None if arguments.labels is None else find_labels(arguments.labels),
        preset=arguments.preset,
        command=shlex.join(["perception", "import", *arguments.words]),
        thresholds=arguments.thresholds,
        output_name=arguments.output_name,
        fixed_inputs=dict(arguments.fix_input),
        layout=arguments.layout,
    )


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


def _scores(text: str) -> tuple[float, ...]:
    values = tuple(_number(part) for part in text.split(","))
    if not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers from 0 to 1, such as 0.5,0.3")
    return values


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _named_number(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    number = {"true": 1.0, "false": 0.0}.get(value.lower(), _number(value))
    if not name or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as keep_prob=1")
    return name, number


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


def _resize(text: str) -> tuple[ResizeMode, int]:
    """Return the way and the pixels before a crop, 0 where none are said."""
    name, _, side = text.partition(":")
    mode = RESIZE_MODES.get(name + (":N" if side else ""))
    if mode is None or (":" in text) != side.isdecimal():
        msg = f"{text!r} is not ours; one of {RESIZE_FORMS}"
        raise argparse.ArgumentTypeError(msg)
    return mode, int(side or 0)


def _part(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of 1, such as 0.875")
    return value


def _fill(text: str) -> Fill:
    if text == "edge":
        return "edge"
    values = [int(part) if part.isdecimal() else MAX_PIXEL + 1 for part in text.split(",")]
    if len(values) not in {1, len("RGB")} or max(values) > MAX_PIXEL:
        msg = f"{text!r} is not 0 to {MAX_PIXEL}, nor three of these, nor edge"
        raise argparse.ArgumentTypeError(msg)
    return values[0] if len(values) == 1 else (values[0], values[1], values[2])


def _interpolation(text: str) -> Interpolation:
    for known in INTERPOLATIONS:
        if text == known:
            return known
    msg = f"{text!r} is not ours; one of {', '.join(INTERPOLATIONS)}; like lanczos: bicubic"
    raise argparse.ArgumentTypeError(msg)
