# SPDX-License-Identifier: Apache-2.0
"""Compare a scenario with its schema, and say in one line what is wrong and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError, name_key, quote
from perception_node.system.json_schema import WHOLE_FILE, find_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jsonschema.exceptions import ValidationError

    from perception_node.untyped import Json

SCHEMA = Path(__file__).with_name("scenario.schema.json")
NOT_A_LINE = "(?!\\n)"  # Python's $ matches before a last line break as well
TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "keys with values",
    "string": "a text",
}


def check_schema(path: Path, data: object) -> None:
    """Check the fields of a scenario, each by itself.

    Raises:
        ConfigError: one of them is wrong; names file, key and what is allowed.

    """
    if error := find_problem(data, SCHEMA):
        place = name_place(error.absolute_path) or WHOLE_FILE
        raise ConfigError(f"{path}: {place}: {_describe(error)}")


def name_place(keys: Iterable[str | int]) -> str:
    """Return where something is, such as ``faults[2].at_s``."""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{name_key(key)}" for key in keys)
    return place.removeprefix(".")[:200]


def _describe(error: ValidationError) -> str:
    describe = _DESCRIPTIONS.get(str(error.validator), lambda _rules, _value: "")
    problem = describe(error.schema, error.instance)
    if problem.startswith("must "):
        problem += f", found {quote(str(error.instance))}"
    return problem or " ".join(str(error.message).split())[:200]


def _name_unknown_key(rules: Json, value: Json) -> str:
    if "properties" not in rules:
        return ""
    unknown = min(set(value) - set(rules["properties"]))
    return f"unknown key {quote(unknown)}; allowed are {', '.join(rules['properties'])}"


def _name_kinds(rules: Json, _value: Json) -> str:
    kinds = [rules["type"]] if isinstance(rules["type"], str) else rules["type"]
    return f"must be {' or '.join(TYPES[kind] for kind in kinds)}"


def _name_bounds(rules: Json, _value: Json) -> str:
    lowest = rules.get("minimum", f"more than {rules.get('exclusiveMinimum')}")
    return f"must be {lowest} to {rules['maximum']}"


# What is wrong, by the rule of the schema that it breaks.
_DESCRIPTIONS: dict[str, Callable[[Json, Json], str]] = {
    "additionalProperties": _name_unknown_key,
    "required": lambda rules, value: (
        f"{next(key for key in rules['required'] if key not in value)} is missing"
    ),
    "enum": lambda rules, _: f"must be one of {', '.join(rules['enum'])}",
    "const": lambda rules, _: f"must be {rules['const']}",
    "type": _name_kinds,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum"), _name_bounds),
    "pattern": lambda rules, _: f"must match {rules['pattern'].removesuffix(NOT_A_LINE)}",
    "anyOf": lambda rules, _: f"must be {rules['description']}" if "description" in rules else "",
    "minProperties": lambda rules, _: f"is empty; allowed are {', '.join(rules['properties'])}",
}
