# SPDX-License-Identifier: Apache-2.0
"""JSON that carries its own sha256, so that no changed byte of it goes unnoticed.

The digest finds damage and careless edits. It is no signature: whoever may write the file can
seal it again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


class BrokenSeal(ValueError):
    """The bytes are not those that ``seal`` returned.

    Attributes:
        expected: the sha256 that the data carries.
        found: the sha256 of what was found, hexadecimal.

    """

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"sha256 is {found[:12]}..., not {expected[:12]}...")
        self.expected, self.found = expected, found


def seal(data: dict[str, Any]) -> bytes:
    """Return ``data`` as JSON text in UTF-8, with a last field ``sha256`` of all the others.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.

    """
    fields = {key: value for key, value in data.items() if key != "sha256"}
    fields["sha256"] = _digest(fields)
    return _serialize(fields, allow_nan=False)


def parse(content: bytes) -> Any:  # noqa: ANN401 - JSON can be anything
    """Return what JSON says; ``check_seal`` must follow.

    Raises:
        ValueError: this is no JSON.

    """
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def check_seal(content: bytes, data: Any) -> None:  # noqa: ANN401 - JSON can be anything
    """Check that ``content``, which was parsed to ``data``, is byte for byte what ``seal`` wrote.

    Raises:
        BrokenSeal: some byte differs: a value, white space, a key that occurs twice.
        UnicodeEncodeError: a text holds half a surrogate pair, which UTF-8 cannot say.

    """
    if not isinstance(data, dict):
        raise BrokenSeal("", hashlib.sha256(content).hexdigest())
    expected = str(data.get("sha256"))
    try:
        found, written = _digest(data), _serialize(data)
    except RecursionError:  # nested deeper than what ``seal`` can write
        found, written = expected, b""
    if found != expected:
        raise BrokenSeal(expected, found)
    if content != written:
        raise BrokenSeal(expected, hashlib.sha256(content).hexdigest())


def _digest(data: dict[str, Any]) -> str:
    fields = {key: value for key, value in data.items() if key != "sha256"}
    return hashlib.sha256(_serialize(fields)).hexdigest()


def _serialize(data: dict[str, Any], *, allow_nan: bool = True) -> bytes:
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=allow_nan)
    return f"{text}\n".encode()


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not a number in JSON"
    raise ValueError(msg)
