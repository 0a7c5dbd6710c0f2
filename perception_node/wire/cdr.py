# SPDX-License-Identifier: Apache-2.0
"""A bounds-checked reader of CDR, the serialization that ROS 2 messages travel in.

Only what image messages need: little and big endian plain CDR (OMG DDSI-RTPS 10.5, XCDR 1).
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from perception_node.errors import MalformedMessage, quote

HEADER_BYTES = 4  # encapsulation: two bytes of representation, two of options
BIG_ENDIAN = b"\x00\x00"
LITTLE_ENDIAN = b"\x00\x01"
MAX_STRING_BYTES = 1 << 16  # names of frames and encodings; a text is copied, octets are not


class Layout:
    """Numbers of 32 bits that follow each other, in both byte orders."""

    def __init__(self, letters: str) -> None:
        """Prepare for a number per letter: ``i`` is signed, ``I`` unsigned."""
        self.size = 4 * len(letters)
        self.unpack = [struct.Struct(order + letters).unpack_from for order in "<>"]


UINT32 = Layout("I")


class CdrReader:
    """Reads one serialized message from front to back.

    Every method raises ``MalformedMessage`` where the bytes end too soon. Each call costs where
    the caches are cold, so numbers are read together, the length of what follows them included.
    """

    def __init__(self, data: bytes) -> None:
        """Begin after the encapsulation header, which states the byte order."""
        representation = bytes(data[:2])
        self._is_big = representation == BIG_ENDIAN
        self._size = len(data)
        is_known = self._is_big or representation == LITTLE_ENDIAN
        if self._size < HEADER_BYTES or not is_known:
            msg = f"not a CDR message: it begins with {bytes(data[:HEADER_BYTES])!r}"
            raise MalformedMessage(msg)
        self._data = memoryview(data)
        self._position = HEADER_BYTES

    def numbers(self, layout: Layout) -> tuple[Any, ...]:
        """Read the integers of a layout, from the next multiple of four on."""
        start = (self._position + 3) & -4  # the encapsulation has four bytes itself
        end = start + layout.size
        if end > self._size:
            self._refuse(end)
        self._position = end
        return layout.unpack[self._is_big](self._data, start)

    def uint32(self) -> int:
        """Read an unsigned 32-bit integer."""
        value: int = self.numbers(UINT32)[0]
        return value

    def uint8(self) -> int:
        """Read one byte."""
        return self.view(1)[0]

    def view(self, size: int) -> memoryview:
        """Read ``size`` bytes, as a view of the message."""
        start = self._position
        end = start + size
        if end > self._size:
            self._refuse(end)
        self._position = end
        return self._data[start:end]

    def text(self, size: int) -> str:
        """Read the ``size`` bytes of a string, at most ``MAX_STRING_BYTES``, with its NUL.

        Bytes that are not UTF-8 are replaced.
        """
        octets = self.view(size)
        if size > MAX_STRING_BYTES:
            msg = f"a string has {size} bytes, at most {MAX_STRING_BYTES} are read"
            raise MalformedMessage(msg)
        if size == 0 or octets[-1] != 0:
            msg = f"a string does not end with NUL: {quote(str(octets, 'latin-1'))}"
            raise MalformedMessage(msg)
        return str(octets[:-1], "utf-8", "replace")

    def octets(self) -> memoryview:
        """Read a sequence of bytes, its length first, as a view of the message."""
        return self.view(self.uint32())

    def string(self) -> str:
        """Read a string, its length first; see ``text``."""
        return self.text(self.uint32())

    def _refuse(self, end: int) -> NoReturn:
        msg = f"the message ends after {self._size} bytes, {end} are needed"
        raise MalformedMessage(msg)
