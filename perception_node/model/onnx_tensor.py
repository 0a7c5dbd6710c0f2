# SPDX-License-Identifier: Apache-2.0
"""Read the fields of a protobuf message, and what a tensor of ONNX states and holds."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Buffer = bytes | memoryview

MAX_RANK = 32
MAX_SHOWN = 80  # characters of a name
VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5  # wire types of protobuf
DIMS, DATA_TYPE, STRINGS, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 6, 8, 9, 13, 14
STRING_TYPE = 8
# Bits of an element by its type; a type that is not here is newer and has at least two.
BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
}
SMALLEST_BITS = 2
LONGEST_NUMBER = 15  # digits of an offset
LONGEST_PLACE = 10_000  # bytes of one entry that says where weights lie
LOCATION_KEY, OFFSET_KEY, LENGTH_KEY = "location", "offset", "length"  # of what lies elsewhere
WHOLE = (RAW, 4, 10)  # fields of a tensor with all bits of its numbers: raw, floats, doubles
INTEGERS = (5, 7, 11)  # fields with numbers of any length
NEGATIVE = 1 << 63


class DamagedOnnx(ValueError):
    """The bytes are not those of an ONNX file."""


class RefusedOnnx(ValueError):
    """The file holds what no model of this package needs and what does harm; one line."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where the numbers of a tensor lie in another file.

    Attributes:
        location: name of the file, as the tensor states it.
        offset: of the first byte.
        length: in bytes, as many as the tensor's shape and type need.

    """

    location: str
    offset: int
    length: int


@dataclass(slots=True)
class Tensor:
    """What a tensor states, and how much it holds in each of its fields."""

    name: str = ""
    kind: int = 0
    dims: list[int] = field(default_factory=list)
    is_elsewhere: bool = False
    place: dict[str, str] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def note(self, number: int, value: int | memoryview) -> None:
        """Take in one field."""
        if number == LOCATION:
            self.is_elsewhere |= value != 0
        elif number == EXTERNAL and not isinstance(value, int):
            self.is_elsewhere = True
            if len(value) > LONGEST_PLACE:
                raise RefusedOnnx(f"more than {LONGEST_PLACE} bytes say where its weights lie")
            texts = {n: str(v, "utf-8") for n, v, _ in fields(value) if not isinstance(v, int)}
            self.place[texts.get(1, "")] = texts.get(2, "")
        elif number == STRINGS:
            self.held[number] += 1
        elif isinstance(value, int):
            self.held[number] += 1
            if number == DATA_TYPE:
                self.kind = value
            elif number == DIMS:
                self.dims = [*self.dims[:MAX_RANK], value]
        elif number == NAME:
            self.name = str(value, "utf-8")
        elif number == DIMS:
            self.dims += _varints(value)
        else:
            self.held[number] += len(value)

    def holds(self, elements: int) -> bool:
        """Tell whether there is room for so many elements in what is there."""
        if self.kind == STRING_TYPE:
            return elements <= self.held[STRINGS]
        bits = BITS.get(self.kind, SMALLEST_BITS)
        room = 8 * sum(self.held[number] for number in WHOLE)
        if not room:  # a number takes a byte or more, whatever its type; those of 4 bits share one
            room, bits = 8 * sum(self.held[number] for number in INTEGERS), min(bits, 8)
        return -(-elements * bits // 8) * 8 <= room

    def span(self) -> Span:
        """Return where the numbers lie that are elsewhere.

        Raises:
            RefusedOnnx: this is not said, or does not fit the tensor.

        """
        name, bits = ascii(self.name)[:MAX_SHOWN], BITS.get(self.kind)
        try:
            offset = _whole_number(self.place.get(OFFSET_KEY, "0"))
            length = _whole_number(self.place.get(LENGTH_KEY, "0"))
        except ValueError as error:
            raise RefusedOnnx(f"where the weights {name} lie is no number") from error
        if bits is None or not self.place.get(LOCATION_KEY):
            raise RefusedOnnx(f"the weights {name} lie in another file that cannot be found")
        needed = -(-math.prod(self.dims) * bits // 8)
        if length not in {0, needed}:
            raise RefusedOnnx(f"the weights {name} state {self.dims} and {length} bytes")
        return Span(self.place[LOCATION_KEY], offset, needed)


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Yield the fields of a message: their numbers, their values, and all of their bytes.

    Raises:
        DamagedOnnx, IndexError: it is none.

    """
    position, end = 0, len(message)
    while position < end:
        start = position
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value, message[start:position]
            continue
        if wire == COUNTED:
            size, position = _varint(message, position)
        elif wire in {EIGHT_BYTES, FOUR_BYTES}:
            size = 8 if wire == EIGHT_BYTES else 4
        else:
            raise DamagedOnnx("it is no ONNX, or damaged")
        if position + size > end:
            raise DamagedOnnx("it is no ONNX, or damaged: it is cut off")
        begin, position = position, position + size
        yield tag >> 3, message[begin:position], message[start:position]


def _whole_number(text: str) -> int:
    """Return a number of at most 15 digits.

    Raises:
        ValueError: it is none.

    """
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER):
        raise ValueError(text)
    return int(text)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and where the next begins."""
    value = 0
    for place in range(10):
        byte = message[position + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + place + 1
    raise DamagedOnnx("it is no ONNX, or damaged")


def _varints(message: memoryview) -> Iterator[int]:
    position = 0
    for _ in range(MAX_RANK + 1):
        if position >= len(message):
            return
        value, position = _varint(message, position)
        yield value
