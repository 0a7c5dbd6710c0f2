# SPDX-License-Identifier: Apache-2.0
"""JSON that carries its own sha256, so that no changed byte of it goes unnoticed.

The digest finds damage and careless edits. It is no signature: whoever may write the file can
seal it again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception_node.untyped import Json


MAX_VALUES = 3_000_000  # TensorRT's description of a network has some 100 000


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


def parse(content: bytes) -> Json:
    """Return what JSON says; ``check_seal`` must follow.

    Raises:
        ValueError: this is no JSON, or has more values than any file of ours.

    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        msg = f"more than {MAX_VALUES} values"
        raise ValueError(msg)
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def check_seal(content: bytes, data: Json) -> None:
    """Check that ``content``, which was parsed to ``data``, is byte for byte what ``seal`` wrote.

    Raises:
        BrokenSeal: some byte differs: a value, white space, a key that occurs twice.
        UnicodeEncodeError: a text holds half a surrogate pair, which UTF-8 cannot say.

    """
    if not isinstance(data, dict):
        raise BrokenSeal("", hashlib.sha256(content).hexdigest())
    expected = str(data.get("sha256"))
    try:
        written = _serialize(data, limit=len(content))
        found = _digest(data)
    except (RecursionError, _TooLong):  # nested deeper than what ``seal`` can write, or not by it
        found, written = expected, b""
    if found != expected:
        raise BrokenSeal(expected, found)
    if content != written:
        raise BrokenSeal(expected, hashlib.sha256(content).hexdigest())


def _digest(data: dict[str, Any]) -> str:
    fields = {key: value for key, value in data.items() if key != "sha256"}
    return hashlib.sha256(_serialize(fields)).hexdigest()


class _TooLong(Exception):
    """The text is longer than it may be."""


def _serialize(data: dict[str, Any], *, allow_nan: bool = True, limit: int = sys.maxsize) -> bytes:
    """Return the text; of deep lists the indentation is most, so it is given up beyond a limit."""
    encoder = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=allow_nan)
    parts = []
    for part in encoder.iterencode(data):
        limit -= len(part)
        if limit < 0:
            raise _TooLong
        parts.append(part)
    return f"{''.join(parts)}\n".encode()


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not a number in JSON"
    raise ValueError(msg)
