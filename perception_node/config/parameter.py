# SPDX-License-Identifier: Apache-2.0
"""What a parameter is: a default, a description, allowed values, and when it may change."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Literal, TypeVar, get_args, get_origin

from perception_node.errors import ConfigError

Value = bool | int | float | str | tuple[str, ...] | tuple[int, ...]
Default = TypeVar("Default", bound=Value)

_NAMES_OF_TYPES = {bool: "bool", int: "int", float: "float", str: "str", tuple: "list"}


class When(str, Enum):
    """When a parameter may change."""

    LIVE = "any time"
    UNCONFIGURED = "while unconfigured"
    START = "at start"


def parameter(
    default: Default,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    when: When = When.UNCONFIGURED,
) -> Default:
    """Describe a field of a section; what is a ``Literal`` allows only its words."""
    rest = {"description": description, "limits": limits, "when": when}
    return field(default=default, metadata={"default": default, **rest})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, as ROS, YAML and options know it; a list has limits and choices of its items.

    Attributes:
        name: the same everywhere.
        default: its type is that of every value.
        description: whole sentences.
        limits: the least and the most that a number may be; None where it is no number.
        choices: the only words allowed; empty where any are.
        when: when it may change.

    """

    name: str
    default: Value
    choices: tuple[str, ...]
    description: str
    limits: tuple[float, float] | None
    when: When

    def check(self, value: object) -> None:
        """Compare a value with what is allowed.

        Raises:
            ConfigError: the value has the wrong type, is out of range or not among the choices.

        """
        expected = type(self.default)
        if type(value) is not expected:
            kind = _NAMES_OF_TYPES[expected]
            raise ConfigError(f"parameter {self.name} must be of type {kind}, found {value!r}")
        for item in value if isinstance(value, tuple) else (value,):
            self._check_item(item)

    def _check_item(self, value: object) -> None:
        default = self.default
        expected = type(default[0] if isinstance(default, tuple) else default)
        if type(value) is not expected:
            kinds = f"{_NAMES_OF_TYPES[expected]}s"
            raise ConfigError(f"parameter {self.name} must hold only {kinds}, found {value!r}")
        if self.choices and value not in self.choices:
            known = ", ".join(self.choices)
            raise ConfigError(f"parameter {self.name} must be one of {known}, found {value!r}")
        if self.limits is None or not isinstance(value, (int, float)):
            return
        lowest, highest = self.limits
        if not lowest <= value <= highest:
            found = "NaN" if isinstance(value, float) and math.isnan(value) else value
            raise ConfigError(
                f"parameter {self.name} must be {lowest} to {highest}, found {found}"
            )


@dataclass(frozen=True, slots=True)
class Section:
    """Some parameters that belong together: its subclasses describe them as their fields.

    Raises:
        ConfigError: a value has the wrong type, is out of range or not among its choices.

    """

    def __post_init__(self) -> None:
        """Check every value, then what only several of them tell."""
        for described in parameters_of(type(self)):
            described.check(getattr(self, described.name))
        self.check_further()

    def check_further(self) -> None:
        """Check what type, limits and choices cannot say; ConfigError where that is wrong."""


def parameters_of(section: type[Section]) -> tuple[Parameter, ...]:
    """Return the parameters of a section, in the order of its fields."""
    found = fields(section)
    return tuple(Parameter(name=f.name, choices=_choices(f.type), **f.metadata) for f in found)


def _choices(annotation: object) -> tuple[str, ...]:
    """Return the words of a ``Literal``, or of a tuple of such; none of another type."""
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) is Literal else ()
