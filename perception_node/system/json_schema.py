# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a file's data by a JSON schema of the package, as one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from perception_node.errors import name_key, quote

if TYPE_CHECKING:
    from pathlib import Path

    from jsonschema.exceptions import ValidationError

WHOLE_FILE = "the whole file"
MOST_CHARACTERS, LONG_VALUE = 200, 40


def find_problem(data: object, schema: Path) -> ValidationError | None:
    """Return what is most wrong in the data by a schema (draft 7); None if nothing is."""
    error = best_match(Draft7Validator(json.loads(schema.read_bytes())).iter_errors(data))
    # Of alternatives, none of which fits, jsonschema before 4.21 takes one; the message names all.
    while error and error.parent and error.absolute_path == error.parent.absolute_path:
        error = error.parent
    return cast("ValidationError | None", error)


def describe_problem(data: object, schema: Path) -> str:
    """Return where and what that is, such as ``input.width: 0 is less than ...``; else nothing."""
    error = find_problem(data, schema)
    if error is None:
        return ""
    place = ".".join(map(name_key, error.absolute_path)) or WHOLE_FILE
    value, message = repr(error.instance), error.message
    if len(value) > LONG_VALUE:
        message = message.replace(value, quote(value))
    return " ".join(f"{place}: {message}".split())[:MOST_CHARACTERS]
