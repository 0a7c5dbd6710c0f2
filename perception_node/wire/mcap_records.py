# SPDX-License-Identifier: Apache-2.0
"""The records of an MCAP file, one after the other, and those in its chunks.

The format is described at https://mcap.dev/spec.
"""

from __future__ import annotations

import os
import struct
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from perception_node.wire.channels import MAX_NAME_BYTES
from perception_node.wire.chunks import MAX_CHUNK_BYTES, NothingLeft
from perception_node.wire.unpacking import unpack, unpack_beginning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from perception_node.wire.chunks import Place

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX = 1, 2, 3, 4, 5, 6, 8
STATISTICS, SUMMARY_OFFSET = 0x0B, 0x0E
FOOTER_BYTES = 37  # with the magic behind it
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
NOTHING: Mapping[int, int] = MappingProxyType({})
MAX_SMALL_BYTES = 1 << 24  # of a record that is no chunk and no message


class McapRecords:
    """An open MCAP file as its records.

    Attributes:
        begin: where the first record behind the header is.
        end: where the footer is, or where the file ends that has none.
        summary: where the summary begins; 0: there is none.
        cut_at: where the file was cut off; None if it is whole, or the place is not reached yet.

    """

    def __init__(self, file: BinaryIO) -> None:
        """Look at both ends of the file; ``ValueError`` if it is no MCAP file, or damaged."""
        self._file = file
        self.summary = 0
        self.cut_at: int | None = None
        self.end = os.fstat(file.fileno()).st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it is no MCAP file")
        self._has_end = self._read_footer()
        kind, position, length = next(self.between(len(MAGIC), self.end), (0, 0, 0))
        if kind == 0:
            raise NothingLeft("it was cut off in its header")
        if kind != HEADER:
            raise ValueError("it is no MCAP file: it has no header")
        self.begin = position + RECORD.size + length
        if self.summary and not self.begin <= self.summary <= self.end:
            raise ValueError("its summary lies elsewhere")

    def _read_footer(self) -> bool:
        self._file.seek(max(0, self.end - FOOTER_BYTES))
        footer = self._file.read(FOOTER_BYTES)
        if footer[:9] != RECORD.pack(FOOTER, 20) or not footer.endswith(MAGIC):
            return False
        self.end -= FOOTER_BYTES
        (self.summary,) = struct.unpack_from("<Q", footer, 9)
        return True

    def between(
        self, begin: int, end: int, known: Mapping[int, int] = NOTHING
    ) -> Iterator[tuple[int, int, int]]:
        """Yield kind, position and length of records; the file stands behind the head.

        In a file without an end they end where it was cut off, perhaps with a part of a chunk.
        Of those that are ``known`` by their begin, only the end is looked at.
        """
        while begin < end:
            if known.get(begin, 0) > begin:
                begin = known[begin]
                continue
            self._file.seek(begin)
            head = self._file.read(RECORD.size)
            kind, length = RECORD.unpack(head) if len(head) == RECORD.size else (0, end)
            if kind == FOOTER and not self._has_end:
                return  # something lies behind the end
            if kind == 0 or begin + RECORD.size + length > end:
                if self._has_end:
                    raise ValueError(f"the record at {begin} is longer than the file")
                self.cut_at = begin
                if kind == CHUNK:
                    yield kind, begin, end - begin - RECORD.size
                return
            yield kind, begin, length
            begin += RECORD.size + length
        if not self._has_end:
            self.cut_at = end

    def small(self, length: int) -> bytes:
        """Read a record that is no chunk and no message."""
        return self.read(length, MAX_SMALL_BYTES)

    def read(self, length: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        """Read the content of the record whose head was just read."""
        if not 0 <= length <= limit:
            raise ValueError(f"a record has {length} bytes, more than {limit}")
        content = self._file.read(length)
        if len(content) != length:
            raise ValueError("a record is cut off")
        return content

    def chunk_start(self) -> int:
        """Read when the messages begin of the chunk whose head was just read."""
        return int.from_bytes(self._file.read(8), "little")

    def unpack(self, position: int) -> bytes:
        """Return the content of a chunk; the beginning of the one in which the file was cut.

        In a file without an end, the first damaged chunk is where it was cut.
        """
        try:
            return self._unpack(position)
        except Exception:
            if self._has_end:
                raise
            self.cut_at = position
            return b""

    def _unpack(self, position: int) -> bytes:
        is_cut = position == self.cut_at
        self._file.seek(position)
        kind, length = RECORD.unpack(self._file.read(RECORD.size))
        head = self._file.read(CHUNK_HEAD.size)
        _, _, size, checksum = CHUNK_HEAD.unpack(head)
        if kind != CHUNK or size > MAX_CHUNK_BYTES:
            raise ValueError(f"the chunk at {position} has {size} bytes or is none")
        begin = position + RECORD.size + CHUNK_HEAD.size
        length -= CHUNK_HEAD.size
        rest = self.read(min(length, self.end - begin) if is_cut else length)
        method, place = text(rest, 0)
        (packed,) = struct.unpack_from("<Q", rest, place)
        data = rest[place + 8 : place + 8 + packed]
        if is_cut:
            return unpack_beginning(data, method, size)
        content = unpack(data, method, size)
        if len(content) != size or (checksum and zlib.crc32(content) != checksum):
            raise ValueError(f"the chunk at {position} is damaged")
        return content

    def places(self, position: int) -> tuple[bytes, Iterator[Place]]:
        """Return the content of a chunk, and where its messages are."""
        content = self.unpack(position)
        return content, _find_messages(content, is_cut=position == self.cut_at)


def _find_messages(content: bytes, *, is_cut: bool) -> Iterator[Place]:
    for kind, begin, end in inner_records(content, is_cut=is_cut):
        if kind == MESSAGE:
            number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content, begin)
            yield time_ns, number, begin + MESSAGE_HEAD.size, end


def inner_records(content: bytes, *, is_cut: bool) -> Iterator[tuple[int, int, int]]:
    """Yield kind, begin and end of the records in a chunk, whose end may be missing."""
    begin = 0
    while begin < len(content):
        if is_cut and begin + RECORD.size > len(content):
            return
        kind, length = RECORD.unpack_from(content, begin)
        begin += RECORD.size
        if begin + length > len(content):
            if is_cut:
                return
            raise ValueError("a record is longer than its chunk")
        yield kind, begin, begin + length
        begin += length


def text(content: bytes | memoryview, place: int) -> tuple[str, int]:
    """Return a short text and where it ends."""
    (length,) = struct.unpack_from("<I", content, place)
    place += 4
    if length > MAX_NAME_BYTES or place + length > len(content):
        raise ValueError(f"a name has {length} bytes")
    return str(content[place : place + length], "utf-8"), place + length
