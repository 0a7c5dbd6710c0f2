# SPDX-License-Identifier: Apache-2.0
"""How a model wants its images: what the user says, else what the model shows, else a question.

Nothing is guessed that a wrong answer would ruin silently: what neither the user nor the model
says becomes one error with every flag that is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from perception_node.engines.importing.layouts import LAYOUTS
from perception_node.errors import ConversionError
from perception_node.model.bundle import Preprocessing

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.model.bundle import (
        ColorOrder,
        Interpolation,
        ModelBundle,
        OutputKind,
        ResizeMode,
    )

Three = tuple[float, float, float]
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SCRIPT_SIZE = (224, 224)
MAX_SIDE = 4096  # in pixels, as in bundle.schema.json
SMALLEST_STD = 1e-6  # as there
LARGEST_OF_UNIT_SCALE = 2.0  # statistics of pixels from 0 to 1 are smaller, of 0 to 255 larger
FLAGS = {
    "size": "--size HxW (pixels of the input)",
    "color": "--color RGB|BGR (order of the channels)",
    "resize": "--resize stretch|shorter-side:N|letterbox",
    "mean": "--mean R,G,B (what is subtracted; 0 if nothing is)",
    "std": "--std R,G,B (what is divided by; 1 if nothing is)",
    "labels": "--labels FILE (one class name per line)",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said; None where nothing was said. See ``Preprocessing`` for the terms."""

    size: tuple[int, int] | None = None
    color: ColorOrder | None = None
    resize: ResizeMode | None = None
    shorter_side: int = 0
    interpolation: Interpolation | None = None
    scale: float | None = None
    mean: Three | None = None
    std: Three | None = None
    output: OutputKind | None = None
    labels: tuple[str, ...] | None = None

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


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are prepared for a model.

    Attributes:
        size: height and width of the input in pixels.
        preprocessing: goes into the bundle.
        choices: what was not said by the user, by name.

    """

    size: tuple[int, int]
    preprocessing: Preprocessing
    choices: dict[str, Choice]


SAID = "given"
SCRIPT = "convention for TorchScript models"
GRAPH = "its input"
DEFAULT = "default"


def settle_script(path: Path, wishes: Wishes) -> Settings:
    """Settle a TorchScript module's settings: RGB, 224x224, stretched, divided by 255.

    Raises:
        ConversionError: a wish does not fit another.

    """
    known = {
        "size": Choice(SCRIPT_SIZE, SCRIPT),
        "color": Choice("RGB", SCRIPT),
        "resize": Choice("stretch", SCRIPT),
        "mean": Choice(ZEROS, SCRIPT),
        "std": Choice(ONES, SCRIPT),
    }
    if wishes.mean is None and wishes.std is None:
        known["scale"] = Choice(1.0 / 255.0, SCRIPT)
    return _settle(path, wishes, known)


def settle_graph(path: Path, wishes: Wishes, graph: dict[str, Any], labels: object) -> Settings:
    """Settle an ONNX model's settings from what its graph shows, the fields of ``GraphFacts``.

    ``labels`` are the class names, if there are any yet.

    Raises:
        ConversionError: something must be said, or a wish does not fit the model.

    """
    known: dict[str, Choice] = {}
    size = (graph["height"], graph["width"])
    if None not in size:
        known["size"] = Choice(size, GRAPH)
        if wishes.size not in {None, size}:
            problem = f"its input is {size[0]}x{size[1]} pixels, leave out --size"
            raise ConversionError(path, problem)
    takes_pixels = _takes_pixels(graph)
    if takes_pixels:
        source = f"{GRAPH}, {takes_pixels}"
        known.update(mean=Choice(ZEROS, source), std=Choice(ONES, source))
        known["scale"] = Choice(1.0, source)
        for name, only in (("mean", ZEROS), ("std", ONES), ("scale", 1.0)):
            if getattr(wishes, name) not in {None, only}:
                problem = f"{source}, takes pixels from 0 to 255 as they are; leave out --{name}"
                raise ConversionError(path, problem)
    if LAYOUTS[graph["layout"]].alpha:
        known.update(color=Choice("RGB", source), resize=Choice("stretch", source))
    return _settle(path, wishes, known, labels_missing=not labels)


def _takes_pixels(graph: dict[str, Any]) -> str:
    """Say why the model must normalise by itself; empty where it need not."""
    if LAYOUTS[graph["layout"]].alpha:
        return "RGBA"
    return "uint8" if graph["element"] == "uint8" else ""


def _settle(
    path: Path, wishes: Wishes, known: dict[str, Choice], *, labels_missing: bool = False
) -> Settings:
    needed = ("size", "color", "resize", "mean", "std")
    chosen = {name: _choose(wishes, known, name) for name in needed}
    missing = [name for name, choice in chosen.items() if choice is None]
    missing += ["labels"] if labels_missing else []
    if missing:
        flags = "; ".join(FLAGS[name] for name in missing)
        raise ConversionError(path, f"the model does not say everything; give {flags}")
    choices = {name: choice for name, choice in chosen.items() if choice is not None}
    choices["interpolation"] = _choose(wishes, {}, "interpolation") or Choice("bilinear", DEFAULT)
    choices["scale"] = _choose(wishes, known, "scale") or _infer_scale(
        path, choices["mean"].value, choices["std"].value
    )
    size_choice = choices.pop("size")
    size = size_choice.value
    if not all(1 <= side <= MAX_SIDE for side in size):
        problem = f"its input is {size[0]}x{size[1]} pixels; 1 to {MAX_SIDE} can be used"
        raise ConversionError(path, problem)
    settings = {name: choice.value for name, choice in choices.items()}
    if min(settings["std"]) < SMALLEST_STD:
        raise ConversionError(path, f"--std must be at least {SMALLEST_STD:g} for every channel")
    preprocessing = Preprocessing(shorter_side=wishes.shorter_side, **settings)
    if preprocessing.resize == "shorter-side" and preprocessing.shorter_side < max(size):
        problem = f"--resize shorter-side:N needs at least the input's {max(size)} pixels"
        raise ConversionError(path, problem)
    choices["size"] = size_choice
    return Settings(size, preprocessing, choices)


def _choose(wishes: Wishes, known: dict[str, Choice], name: str) -> Choice | None:
    wish = getattr(wishes, name)
    return Choice(wish, SAID) if wish is not None else known.get(name)


def _infer_scale(path: Path, mean: Three, std: Three) -> Choice:
    """Tell from the size of mean and std whether they are of pixels up to 1 or up to 255."""
    if not any(mean) and set(std) == {1.0}:
        problem = "mean 0 and std 1 leave it open; give --scale 1 (pixels 0 to 255) or 0.00392157"
        raise ConversionError(path, f"{problem} (0 to 1)")
    if max(*mean, *std) > LARGEST_OF_UNIT_SCALE:
        return Choice(1.0, "mean and std are of pixels up to 255")
    return Choice(1.0 / 255.0, "mean and std are of pixels up to 1")
