# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a file's data by its JSON schema, as one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from perception_node.errors import ConfigError, quote

if TYPE_CHECKING:
    from pathlib import Path

MAX_MESSAGE_CHARACTERS = 200


def check_schema(path: Path, data: object, schema: Path) -> None:
    """Check what was read from a file.

    Args:
        path: the file, for the message.
        data: what it says.
        schema: a JSON schema, draft 7.

    Raises:
        ConfigError: it says something else than the schema allows; names file and key.

    """
    error = best_match(Draft7Validator(json.loads(schema.read_bytes())).iter_errors(data))
    if error is None:
        return
    place = ".".join(str(key) for key in error.absolute_path) or "the whole file"
    shown = repr(error.instance)
    problem = error.message.replace(shown, quote(shown)) if len(shown) > 40 else error.message  # noqa: PLR2004 - characters
    message = f"{path}: {place}: {problem}"
    raise ConfigError(" ".join(message.split())[: len(str(path)) + MAX_MESSAGE_CHARACTERS])
