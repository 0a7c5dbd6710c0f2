# SPDX-License-Identifier: Apache-2.0
"""A bounds-checked reader of CDR, the serialization that ROS 2 messages travel in.

Only what image messages need: little and big endian plain CDR (OMG DDSI-RTPS 10.5, XCDR 1).
"""

from __future__ import annotations

import struct

from perception_node.errors import MalformedMessage, quote

HEADER_BYTES = 4  # encapsulation: two bytes of representation, two of options
BIG_ENDIAN = b"\x00\x00"
LITTLE_ENDIAN = b"\x00\x01"
LITTLE = struct.Struct("<i"), struct.Struct("<I")
BIG = struct.Struct(">i"), struct.Struct(">I")
MAX_STRING_BYTES = 1 << 16  # names of frames and encodings; a text is copied, octets are not


class CdrReader:
    """Reads one serialized message from front to back.

    Every method raises ``MalformedMessage`` where the bytes end too soon.
    """

    def __init__(self, data: bytes) -> None:
        """Begin after the encapsulation header, which states the byte order."""
        representation = bytes(data[:2])
        if len(data) < HEADER_BYTES or representation not in {BIG_ENDIAN, LITTLE_ENDIAN}:
            msg = f"not a CDR message: it begins with {bytes(data[:HEADER_BYTES])!r}"
            raise MalformedMessage(msg)
        self._int32, self._uint32 = LITTLE if representation == LITTLE_ENDIAN else BIG
        self._data = memoryview(data)
        self._position = HEADER_BYTES

    def int32(self) -> int:
        """Read a signed 32-bit integer."""
        value: int = self._int32.unpack_from(self._data, self._claim_aligned())[0]
        return value

    def uint32(self) -> int:
        """Read an unsigned 32-bit integer."""
        value: int = self._uint32.unpack_from(self._data, self._claim_aligned())[0]
        return value

    def uint8(self) -> int:
        """Read one byte."""
        return self._data[self._claim(1)]

    def octets(self) -> memoryview:
        """Read a sequence of bytes, as a view of the message."""
        size = self.uint32()
        start = self._claim(size)
        return self._data[start : start + size]

    def string(self) -> str:
        """Read a string of up to ``MAX_STRING_BYTES``; bytes that are not UTF-8 are replaced."""
        octets = self.octets()
        if len(octets) > MAX_STRING_BYTES:
            msg = f"a string has {len(octets)} bytes, at most {MAX_STRING_BYTES} are read"
            raise MalformedMessage(msg)
        content = bytes(octets)
        if not content.endswith(b"\x00"):
            msg = f"a string does not end with NUL: {quote(content.decode('latin-1'))}"
            raise MalformedMessage(msg)
        return content[:-1].decode("utf-8", "replace")

    def _claim_aligned(self) -> int:
        """Claim four bytes at the next multiple of four after the header."""
        self._position += -self._position % 4  # the header has four bytes itself
        return self._claim(4)

    def _claim(self, size: int) -> int:
        """Move past ``size`` bytes and return where they begin."""
        start, end = self._position, self._position + size
        if end > len(self._data):
            msg = f"the message ends after {len(self._data)} bytes, {end} are needed"
            raise MalformedMessage(msg)
        self._position = end
        return start
