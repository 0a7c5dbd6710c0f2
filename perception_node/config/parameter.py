# SPDX-License-Identifier: Apache-2.0
"""What a parameter is: a default, a description, allowed values, and when it may change."""

from __future__ import annotations

from dataclasses import Field, field
from enum import Enum
from typing import Any

from perception_node.errors import ConfigError

Value = bool | int | float | str | tuple[str, ...] | tuple[int, ...]

_NAMES_OF_TYPES = {bool: "bool", int: "int", float: "float", str: "str", tuple: "list"}


class When(str, Enum):
    """When a parameter may change."""

    LIVE = "any time"
    UNCONFIGURED = "while unconfigured"
    START = "at start"


def parameter(
    default: Value,
    description: str,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    choices: tuple[str, ...] = (),
    when: When = When.UNCONFIGURED,
) -> Any:  # noqa: ANN401 - dataclasses.field() hands out Any as well
    """Describe a field of a configuration; its type is that of ``default``."""
    metadata = {
        "description": description,
        "lowest": lowest,
        "highest": highest,
        "choices": choices,
        "when": when,
    }
    return field(default=default, metadata=metadata)


def check(described: Field[Any], value: Value) -> None:
    """Compare a value with what ``described`` allows.

    Raises:
        ConfigError: the value has the wrong type, is out of range or not among the choices.

    """
    name, expected = described.name, type(described.default)
    if type(value) is not expected:
        msg = f"parameter {name} must be of type {_NAMES_OF_TYPES[expected]}, found {value!r}"
        raise ConfigError(msg)
    for element in value if isinstance(value, tuple) else (value,):
        _check_element(described, element)


def _check_element(described: Field[Any], value: Any) -> None:  # noqa: ANN401 - it may be anything
    name, metadata = described.name, described.metadata
    default: Any = described.default
    expected = type(default[0] if isinstance(default, tuple) else default)
    if type(value) is not expected:
        msg = f"parameter {name} must hold only {_NAMES_OF_TYPES[expected]}s, found {value!r}"
        raise ConfigError(msg)
    if metadata["choices"] and value not in metadata["choices"]:
        msg = f"parameter {name} must be one of {', '.join(metadata['choices'])}, found {value!r}"
        raise ConfigError(msg)
    if metadata["lowest"] is None:
        return
    if not metadata["lowest"] <= value <= metadata["highest"]:
        msg = (
            f"parameter {name} must be {metadata['lowest']} to {metadata['highest']}, "
            f"found {'NaN' if value != value else value}"  # noqa: PLR0124
        )
        raise ConfigError(msg)
