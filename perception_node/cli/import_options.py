# SPDX-License-Identifier: Apache-2.0
"""The options of ``perception import`` that say what a model file does not say itself."""

from __future__ import annotations

import argparse
import math
import shlex
from typing import TYPE_CHECKING, get_args

from perception_node.engines.importing.graph.layouts import LAYOUTS
from perception_node.engines.importing.labels import LABEL_FORMS, find_labels
from perception_node.engines.importing.presets import PRESETS
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConfigError
from perception_node.model.bundle import Interpolation, OutputKind

if TYPE_CHECKING:
    from perception_node.model.bundle import Fill, ResizeMode

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
    """Describe the options."""
    about = parser.add_argument_group("about the model, where it does not say it itself")
    about.add_argument("--labels", metavar="FILE", help=f"{LABEL_FORMS}; or names: no,yes")
    about.add_argument("--preset", choices=tuple(PRESETS), help="answers for a family of models")
    _add_options_of_images(about)
    _add_options_of_graphs(about)


def _add_options_of_images(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--size", type=_size, metavar="HxW", help="pixels of the input")
    parser.add_argument("--color", choices=("RGB", "BGR"), help="order of the channels")
    parser.add_argument("--resize", type=_resize, metavar="HOW", help=RESIZE_FORMS)
    parser.add_argument(
        "--crop-pct", type=_part, metavar="P", help="part of the side that the crop keeps: 0.875"
    )
    parser.add_argument(
        "--fill",
        type=_fill,
        metavar="V",
        help="fills the border: 0 to 255, three in order, or edge",
    )
    parser.add_argument(
        "--interpolation",
        type=_interpolation,
        metavar="KIND",
        help=f"{', '.join(INTERPOLATIONS)} (aliased: as OpenCV and TensorFlow resize)",
    )
    parser.add_argument(
        "--mean",
        type=_three,
        metavar="M,M,M",
        help="subtracted: three in the order of --color (with BGR: blue first), or one",
    )
    parser.add_argument("--std", type=_three, metavar="S,S,S", help="divisors, in the same order")
    parser.add_argument("--scale", type=_positive, metavar="S", help="factor on pixels, first")


def _add_options_of_graphs(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--output-name", default="", metavar="NAME", help="tensor of the scores")
    parser.add_argument(
        "--fix-input",
        type=_named_number,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="number for an input that takes no image, such as keep_prob=1",
    )
    parser.add_argument(
        "--layout", choices=tuple(LAYOUTS), default="", help="order of the input's axes"
    )
    parser.add_argument(
        "--output",
        choices=get_args(OutputKind),
        help="the scores: logits or probabilities of one class of all, or a sigmoid of each class",
    )
    parser.add_argument(
        "--thresholds",
        type=_scores,
        metavar="T,T,...",
        help="with sigmoid scores: what each class must reach, 0 to 1; or one number for all",
    )


def read_wishes(arguments: argparse.Namespace) -> Wishes:
    """Return what the options say.

    Raises:
        ConfigError: an option needs another, or a file with labels cannot be read.

    """
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
