# SPDX-License-Identifier: Apache-2.0
"""What the makers' readers read, and how they read it: text from outside, every value checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from perception_node.engines.importing.labels import LabelProblem, labels_in, parse_labels
from perception_node.engines.importing.settings import MAX_SIDE
from perception_node.errors import name_key, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

Size = tuple[int, int]
Three = tuple[float, float, float]
MAX_YAML_BYTES = 1 << 18  # PyYAML reads less than 1 MB in a second
UNIT = 1.0 / 255.0
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# What PyYAML raises for values that its own types refuse, besides its errors.
NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError)


class Unusable(ValueError):
    """A maker's file says what cannot be used; the message names the file and says why."""


class NoClassifier(Unusable):
    """It says that the model is for something else."""


class Foreign(NamedTuple):
    """A value that is not ours yet: the user can choose another, in the place of an error."""

    name: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is besides the network.

    Attributes:
        files: content of the small files beside the model, by name.
        metadata: what the model file itself holds, by key.
        size: height and width of the network's input in pixels, where they are fixed.
        has_labels: the model file holds class names itself.

    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: Size | None = None
    has_labels: bool = False

    def text(self, name: str) -> str | None:
        """Return a file's text; None where it is not there.

        Raises:
            Unusable: it is not UTF-8.

        """
        if name not in self.files:
            return None
        try:
            return self.files[name].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Unusable(f"{name} is not UTF-8 text") from error

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the class names in a file of nothing else; none where it is not there.

        Raises:
            Unusable: it holds none, or not one for each number.

        """
        text = (self.text(name) or "").strip()
        if text.count(";") and "\n" not in text and name.endswith(".txt"):  # as DeepStream's
            return tuple(label.strip() for label in text.rstrip(";").split(";"))
        try:
            return tuple(parse_labels(text, PurePath(name).suffix)) if text else ()
        except LabelProblem as error:
            raise Unusable(f"{name}: {error}") from error

    def json(self, name: str) -> dict[str, Any] | None:
        """Return what a JSON file holds; None where it is not there, or holds no object.

        Raises:
            Unusable: it is not JSON.

        """
        text = self.text(name)
        if text is None:
            return None
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"{name} is not JSON") from error
        return data if isinstance(data, dict) else None

    def yaml(self, name: str) -> dict[Any, Any] | None:
        """Return what a YAML file holds; None where it is not there, or holds no mapping.

        Raises:
            Unusable: it is not YAML, or too long.

        """
        text = self.text(name)
        if text is None:
            return None
        if len(text) > MAX_YAML_BYTES:
            raise Unusable(f"{name} has more than {MAX_YAML_BYTES} characters")
        try:
            data = yaml.safe_load(text)
        except NOT_YAML as error:
            raise Unusable(f"{name} is not YAML") from error
        return data if isinstance(data, dict) else None


def number(value: object, name: str) -> float:
    """Return a finite number.

    Raises:
        Unusable: it is none.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e30:
        raise Unusable(f"{name} is {_show(value)}, not a number")
    if not math.isfinite(value):
        raise Unusable(f"{name} is not finite")
    return float(value)


def side(value: object, name: str) -> int:
    """Return a number of pixels.

    Raises:
        Unusable: it is none.

    """
    pixels = number(value, name)
    if pixels != int(pixels) or not 1 <= pixels <= MAX_SIDE:
        raise Unusable(f"{name} is {pixels:g}, not 1 to {MAX_SIDE} pixels")
    return int(pixels)


def three(value: object, name: str) -> Three:
    """Return one number per channel; one alone is for all three.

    Raises:
        Unusable: they are no numbers, or not as many.

    """
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(values) not in {1, 3}:
        raise Unusable(f"{name} has {len(values)} values; one per channel is needed")
    first, second, third = [number(entry, name) for entry in values] * (3 // len(values))
    return first, second, third


def fraction(value: object, name: str) -> float:
    """Return a number above 0, at most 1.

    Raises:
        Unusable: it is none.

    """
    part = number(value, name)
    if not 0.0 < part <= 1.0:
        raise Unusable(f"{name} is {part:g}, not above 0 and at most 1")
    return part


def class_names(names: object, name: str) -> tuple[str, ...]:
    """Return class names from a list, or from a map of every index to a name.

    Raises:
        Unusable: there is a gap, or what is there is no text.

    """
    try:
        return tuple(labels_in(names))
    except LabelProblem as error:
        raise Unusable(f"{name}: {error}") from error


def _show(value: object) -> str:
    return quote(value) if isinstance(value, str) else name_key(type(value).__name__)
