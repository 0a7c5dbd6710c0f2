# SPDX-License-Identifier: Apache-2.0
"""How a model wants its images: what the user says, else what the model shows, else a question.

Nothing is guessed that a wrong answer would ruin silently: what neither the user nor the model
says becomes one error with every flag that is missing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from perception_node.engines.importing.graph.layouts import LAYOUTS
from perception_node.engines.importing.presets import ONES, PRESETS, UNIT, ZEROS
from perception_node.engines.importing.questions import ask
from perception_node.errors import ConversionError, quote
from perception_node.model.bundle import (
    CROPPING,
    PADDING,
    ColorOrder,
    Interpolation,
    Preprocessing,
    ResizeMode,
)
from perception_node.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perception_node.model.bundle import Fill, ModelBundle, OutputKind

Three = tuple[float, float, float]
SCRIPT_SIZE = (224, 224)
MAX_SIDE = 4096  # in pixels, as in bundle.schema.json
SMALLEST_STD = 1e-6  # as there
LARGEST_OF_UNIT_SCALE = 2.0  # statistics of pixels from 0 to 1 are smaller, of 0 to 255 larger
NEEDED = ("size", "color", "resize", "mean", "std")
SAID_OF_IMAGES = (*NEEDED, "crop_pct", "interpolation", "scale", "fill")
DEFAULT = "default"
OURS: dict[str, tuple[str, ...]] = {
    "color": get_args(ColorOrder),
    "resize": get_args(ResizeMode),
    "interpolation": get_args(Interpolation),
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said; None where nothing was said. See ``Preprocessing`` for the terms.

    Attributes:
        crop_pct: part of the resized image's side that the crop keeps; in the place of
            ``shorter_side``, as timm and Hugging Face say it.
        preset: a key of ``PRESETS``, for what is not said otherwise.
        output_name: the tensor that holds the scores.
        fixed_inputs: values of inputs that take no image, by name.
        layout: order of the image's axes, a key of ``layouts.LAYOUTS``.
        command: what was typed, to which an error adds what is missing.

    """

    size: tuple[int, int] | None = None
    color: ColorOrder | None = None
    resize: ResizeMode | None = None
    shorter_side: int = 0
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    scale: float | None = None
    mean: Three | None = None
    std: Three | None = None
    fill: Fill | None = None
    output: OutputKind | None = None
    labels: tuple[str, ...] | None = None
    output_name: str = ""
    fixed_inputs: dict[str, float] = field(default_factory=dict)
    layout: str = ""
    thresholds: tuple[float, ...] | None = None
    preset: str | None = None
    command: str = "perception import MODEL -o BUNDLE"

    def or_those_of(self, bundle: ModelBundle) -> Wishes:
        """Return these wishes, and what a bundle says where nothing is wished."""
        known = {**asdict(bundle.manifest.preprocessing), "labels": bundle.labels}
        known["output"] = bundle.manifest.output.kind
        silent = {each.name for each in fields(self) if not getattr(self, each.name)}
        return replace(self, **{name: known[name] for name in silent & known.keys()})


class Choice(NamedTuple):
    """A value and where it comes from, for people to check."""

    value: Any
    source: str


Known = dict[str, Choice]  # by name of setting, as the fields of Wishes


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are prepared for a model.

    Attributes:
        size: height and width of the input in pixels.
        preprocessing: goes into the bundle.
        choices: what was chosen and where it comes from, by name.

    """

    size: tuple[int, int]
    preprocessing: Preprocessing
    choices: Known


SAID = "given"
SCRIPT = "convention for TorchScript models with labels"
EXAMPLE = "its traced example"
GRAPH = "its input"


def settle_script(
    path: Path,
    wishes: Wishes,
    script: Mapping[str, Any],
    known: Mapping[str, Choice] | None = None,
    missing: Sequence[str] = (),
) -> Settings:
    """Settle a TorchScript module's settings; ``script`` are the facts of ``inspect-torchscript``.

    A scripted module that has ``labels``, and of which nothing else is said, is taken for one of
    the reference application: RGB, 224x224, stretched, divided by 255. ``known`` and ``missing``
    are as in ``settle_graph``.

    Raises:
        ConversionError: something must be said, or a wish does not fit another.

    """
    found: Known = {}
    if script["size"]:
        found["size"] = Choice(tuple(script["size"]), EXAMPLE)
    is_silent = not (known or script["traced"] or wishes.preset or _said(wishes))
    if script["labels"] and is_silent:
        found = {
            "size": Choice(SCRIPT_SIZE, SCRIPT),
            "color": Choice("RGB", SCRIPT),
            "resize": Choice("stretch", SCRIPT),
            "mean": Choice(ZEROS, SCRIPT),
            "std": Choice(ONES, SCRIPT),
            "scale": Choice(UNIT, SCRIPT),
        }
    return _settle(path, wishes, [found, known or {}], {}, missing)


def settle_graph(
    path: Path,
    wishes: Wishes,
    graph: Mapping[str, Any],
    known: Mapping[str, Choice] | None = None,
    missing: Sequence[str] = (),
    later: Sequence[str] = (),
) -> Settings:
    """Settle an ONNX model's settings from what its graph shows, the fields of ``GraphFacts``.

    ``known`` is what the model's maker says of it. The user goes before the maker; before both
    goes the graph, where it leaves nothing to choose. ``missing`` are other settings that must be
    said, such as ``labels``: all are asked for at once, with those that will be asked for
    ``later``, when the model has been run.

    Raises:
        ConversionError: something must be said, or a wish does not fit the model.

    """
    fixed: Known = {}
    size = (graph["height"], graph["width"])
    if None not in size:
        fixed["size"] = Choice(size, GRAPH)
        if wishes.size not in {None, size}:
            problem = f"its input is {size[0]}x{size[1]} pixels, leave out --size"
            raise ConversionError(path, problem)
        if known and "size" in known and tuple(known["size"].value) != size:
            height, width = known["size"].value
            source = f"{GRAPH}; {known['size'].source} says {height}x{width}"
            fixed["size"] = Choice(size, source)
    if kind := _takes_pixels(graph):
        fixed |= _pixels(path, wishes, f"{GRAPH}, {kind}")
    shown: Known = {}
    if kind == "RGBA" and not wishes.layout:
        source = f"{GRAPH}, {kind}"
        shown = {"color": Choice("RGB", source), "resize": Choice("stretch", source)}
    is_grey = LAYOUTS[graph["layout"]].channels == 1
    if is_grey:
        shown["color"] = Choice("RGB", f"{GRAPH} is grey")
    questions = {name: printable(text) for name, text in graph.get("questions", {}).items()}
    asked = [*missing, *questions]
    settings = _settle(path, wishes, [shown, known or {}], fixed, asked, later, questions)
    if is_grey:
        _check_grey(path, settings.preprocessing)
    return settings


def _check_grey(path: Path, preprocessing: Preprocessing) -> None:
    """Refuse channels that are normalised apart where grey is made of them."""
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(set(values)) > 1:
            problem = f"its input is grey, but {name} is not the same for all colours"
            raise ConversionError(path, f"{problem}; give one number, --{name} {values[1]:g}")


def _takes_pixels(graph: Mapping[str, Any]) -> str:
    """Say why the model must normalise by itself; empty where it need not."""
    if LAYOUTS[graph["layout"]].alpha:
        return "RGBA"
    element = str(graph["element"])
    return "" if element.startswith("float") else element


def _pixels(path: Path, wishes: Wishes, source: str) -> Known:
    """Return how pixels are left as they are, unless the user wants something else."""
    fixed = {"mean": ZEROS, "std": ONES, "scale": 1.0}
    for name, only in fixed.items():
        if getattr(wishes, name) not in {None, only}:
            problem = f"{source}, takes pixels from 0 to 255 as they are; leave out --{name}"
            raise ConversionError(path, problem)
    return {name: Choice(value, source) for name, value in fixed.items()}


def _said(wishes: Wishes) -> Known:
    """Return what the user says of images."""
    said = {name: getattr(wishes, name) for name in SAID_OF_IMAGES}
    known = {name: Choice(value, SAID) for name, value in said.items() if value is not None}
    if wishes.resize is not None:
        known["shorter_side"] = Choice(wishes.shorter_side, SAID)
    return known


def _preset(wishes: Wishes) -> Known:
    source = f"preset {wishes.preset}"
    values = PRESETS[wishes.preset] if wishes.preset else {}
    return {name: Choice(value, source) for name, value in values.items()}


def _settle(
    path: Path,
    wishes: Wishes,
    found: Sequence[Mapping[str, Choice]],
    fixed: Known,
    missing: Sequence[str],
    later: Sequence[str] = (),
    explanations: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """Choose for each setting the last of its sources, ``fixed`` before all."""
    choices = _merge([*found, _preset(wishes), _said(wishes), fixed])
    asked = {*missing, *(name for name in NEEDED if name not in choices)}
    if not asked & {"mean", "std"} and not _settle_scale(path, choices):
        asked.add("scale")
    if not asked & {"size", "resize"} and not _settle_crop(path, choices):
        asked.add("resize")
    if asked:
        raise ask(path, {*asked, *later}, wishes.command, explanations)
    choices.setdefault("interpolation", Choice("bilinear", DEFAULT))
    if choices["resize"].value in PADDING:
        choices.setdefault("fill", Choice(0, DEFAULT))
    _check_names(path, choices)
    values = {name: choice.value for name, choice in choices.items()}
    size = values.pop("size")
    preprocessing = Preprocessing(**{"shorter_side": 0, **values})
    _check(path, size, preprocessing)
    choices.pop("shorter_side", None)
    return Settings(size, preprocessing, choices)


def _merge(sources: Sequence[Mapping[str, Choice]]) -> Known:
    """Return the last choice of each setting, without what only went with an earlier one."""
    choices: Known = {}
    for source in sources:
        dropped: set[str] = {"shorter_side"} if source.keys() & {"resize", "crop_pct"} else set()
        dropped |= {"crop_pct", "fill"} if "resize" in source else set()
        dropped |= {"scale"} if {"mean", "std"} <= source.keys() else set()
        choices = {name: choice for name, choice in choices.items() if name not in dropped}
        choices |= source
    return choices


def _settle_scale(path: Path, choices: Known) -> bool:
    """Tell from the size of mean and std whether they are of pixels up to 1 or up to 255.

    Returns False where they leave it open.
    """
    mean, std, scale = choices["mean"], choices["std"], choices.get("scale")
    if not any(mean.value) and set(mean.value + std.value) == {0.0, 1.0}:
        return scale is not None
    limit = 255 if max(*mean.value, *std.value) > LARGEST_OF_UNIT_SCALE else 1
    inferred = 1.0 if limit > 1 else UNIT
    if scale is None:
        choices["scale"] = Choice(inferred, f"mean and std are of pixels up to {limit}")
    elif mean.source != std.source and scale.source != SAID and scale.value != inferred:
        problem = f"mean ({mean.source}) and std ({std.source}) seem to be of different pixels"
        raise ConversionError(path, problem, "give --mean, --std and --scale")
    return True


def _settle_crop(path: Path, choices: Known) -> bool:
    """Work out how large the image becomes before it is cropped; False where that is not said."""
    how, part = choices["resize"], choices.pop("crop_pct", None)
    if part is not None:
        height, width = choices["size"].value
        if height != width:
            if part.source != SAID:
                return False
            advice = f"give --resize {how.value.removesuffix('-crop')}:N"
            raise ConversionError(path, "--crop-pct is for square inputs", advice)
        if how.value not in {"stretch", *CROPPING}:
            raise ConversionError(
                path, f"--resize {how.value} crops nothing, leave out --crop-pct"
            )
        side = math.floor(height / part.value)
        choices["shorter_side"] = Choice(side, part.source)
        if how.value == "stretch" and side > height:
            choices["resize"] = Choice("stretch-crop", how.source)
    if choices["resize"].value not in CROPPING:
        choices.pop("shorter_side", None)
        return True
    return bool(choices.get("shorter_side", Choice(0, DEFAULT)).value)


def _check_names(path: Path, choices: Known) -> None:
    """Refuse what a maker names and this package does not do."""
    for name, ours in OURS.items():
        if choices[name].value not in ours:
            problem = f"{name} {quote(str(choices[name].value))} ({choices[name].source})"
            advice = f"give --{name}, one of: {', '.join(ours)}"
            raise ConversionError(path, f"{problem} is not ours yet", advice)


def _check(path: Path, size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Check that the settings fit one another."""
    how, largest = preprocessing.resize, max(size)
    if not all(1 <= side <= MAX_SIDE for side in size):
        problem = f"its input is {size[0]}x{size[1]} pixels; 1 to {MAX_SIDE} can be used"
        raise ConversionError(path, problem)
    if min(preprocessing.std) < SMALLEST_STD:
        raise ConversionError(path, f"--std must be at least {SMALLEST_STD:g} for every channel")
    if how in CROPPING and not largest <= preprocessing.shorter_side <= MAX_SIDE:
        flag = how.removesuffix("-crop")
        problem = f"--resize {flag}:N needs at least the input's {largest} pixels"
        raise ConversionError(path, f"{problem}, at most {MAX_SIDE}")
    if how not in PADDING and preprocessing.fill != 0:
        raise ConversionError(path, f"--resize {how} leaves nothing to fill, leave out --fill")
