# SPDX-License-Identifier: Apache-2.0
"""Messages of any type with random values in every field, and serialized ones with damage."""

from __future__ import annotations

import re
import struct
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from perception_node.config.node_config import ALL_PARAMETERS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from perception_node.untyped import Message

Scalar: TypeAlias = "bool | int | float | bytes | str"

LONG_TEXT, SHORT_TEXT, LONG_LIST = 70_000, 32, 20_000
RARELY = 0.02  # long ones; more would only measure the middleware
WORDS = (
    "",
    "use_sim_time",
    "start_type_description_service",
    "qos_overrides./image.subscription.depth",
    "no.such/parameter name",
    "..",
    "/",
    "perception.",
    "configure",
    "cleanup",
    "activate",
    "deactivate",
    "transition_success",
    "transition_error",
    "rgb8",
    "bgr8",
    "mono16",
    "nan",
    "\x1b[31mred",
    "two\nlines",
    "\u202eright to left",
    "\U0001f916",
    "a" * 300,
    *ALL_PARAMETERS,
)
HUGE, HUGE_FLOAT32 = 1e308, 3e38
FLOATS = (0.0, -0.0, 1.0, -1.0, 5e-324, HUGE, float("inf"), float("-inf"), float("nan"))
INTEGER = re.compile(r"(u?)int(8|16|32|64)")
SEQUENCE = re.compile(r"sequence<(?P<item>[^,]+)(?:, *(?P<most>\d+))?>")
ARRAY = re.compile(r"(?P<item>.+)\[(?P<number>\d+)\]")
EXTREME_WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1_000_000_000)


def find_type(name: str) -> Message:
    """Return the class of a message or service such as ``sensor_msgs/msg/Image``."""
    package, kind, word = name.split("/")
    return getattr(import_module(f"{package}.{kind}"), word)


def fill(message: Message, rng: random.Random) -> Message:
    """Give every field of a message a random value that it can hold; return the message."""
    for name, kind in message.get_fields_and_field_types().items():
        setattr(message, name, _value(kind, rng))
    return message


def _value(kind: str, rng: random.Random) -> Scalar | list[Any] | Message:
    if match := SEQUENCE.fullmatch(kind):
        most = int(match["most"] or LONG_LIST)
        return _list(match["item"], min(most, _length(match["item"], rng)), rng)
    if match := ARRAY.fullmatch(kind):
        return _list(match["item"], int(match["number"]), rng)
    if "/" in kind:
        package, name = kind.rsplit("/", 1)
        return fill(find_type(f"{package.split('/')[0]}/msg/{name}")(), rng)
    return _scalar(kind, rng)


def _list(item: str, length: int, rng: random.Random) -> list[Any] | bytes:
    if item in {"uint8", "octet"} and length:
        content = rng.randbytes(length)
        return content if item == "uint8" else [bytes([byte]) for byte in content]
    if length == LONG_LIST:
        only = _value(item, rng)
        return [only[:SHORT_TEXT] if isinstance(only, str) else only] * length
    return [_value(item, rng) for _ in range(length)]


def _length(item: str, rng: random.Random) -> int:
    is_long = "/" not in item and rng.random() < RARELY
    return LONG_LIST if is_long else rng.choice((0, 1, 1, 2, 3, 17))


def _scalar(kind: str, rng: random.Random) -> Scalar:
    if match := INTEGER.fullmatch(kind):
        bits = int(match[2])
        lowest, highest = (
            (0, (1 << bits) - 1) if match[1] else (-(1 << bits - 1), (1 << bits - 1) - 1)
        )
        return rng.choice((lowest, highest, 0, 1, 10, rng.randint(lowest, highest)))
    if kind in {"float", "double"}:
        number = rng.choice((*FLOATS, rng.uniform(-1e6, 1e6)))
        return number if kind == "double" or abs(number) != HUGE else HUGE_FLOAT32
    if kind == "boolean":
        return rng.choice((False, True))
    if kind == "octet":
        return rng.randbytes(1)
    return _text(rng)


def _text(rng: random.Random) -> str:
    if rng.random() < RARELY:
        return rng.choice(("x", "\u20ac")) * LONG_TEXT
    return rng.choice(WORDS)


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return serialized bytes with one kind of damage."""
    return rng.choice(DAMAGES)(bytearray(content), rng)


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _extend(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content) + rng.randbytes(rng.choice((1, 4, 1000)))


def _lie(content: bytearray, rng: random.Random) -> bytes:
    """Replace an aligned word: mostly these are lengths."""
    place = 4 * rng.randrange(max(1, len(content) // 4))
    content[place : place + 4] = struct.pack("<I", rng.choice(EXTREME_WORDS))
    return bytes(content)


def _break_text(content: bytearray, rng: random.Random) -> bytes:
    """Put bytes where text may be that are no UTF-8, or end it too soon or never."""
    places = [i for i, byte in enumerate(content[4:], 4) if chr(byte).isalnum()] or [0]
    content[rng.choice(places)] = rng.choice((0x00, 0x80, 0xC3, 0xED, 0xFF))
    return bytes(content)


def _change_order(content: bytearray, rng: random.Random) -> bytes:
    """Announce another byte order or encoding of what follows."""
    content[:4] = bytes((rng.choice((0, 0, 255)), rng.randrange(16), 0, 0))
    return bytes(content)


def _invent(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[:4]) + rng.randbytes(rng.choice((0, 1, 4, 64, 4096)))


DAMAGES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _extend,
    _lie,
    _break_text,
    _change_order,
    _invent,
)
