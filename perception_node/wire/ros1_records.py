# SPDX-License-Identifier: Apache-2.0
"""The records of a bag of ROS 1, one after the other, and those in its chunks.

The format is described at http://wiki.ros.org/Bags/Format/2.0.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from perception_node.wire.channels import MAX_NAME_BYTES
from perception_node.wire.chunks import MAX_CHUNK_BYTES, NothingLeft
from perception_node.wire.unpacking import unpack, unpack_beginning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from perception_node.wire.chunks import Place

MAGIC, VERSION = b"#ROSBAG V", b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 5, 6, 7
MAX_HEADER_BYTES = 1 << 16
NOT_PACKED = "none"
NANOSECONDS = 1_000_000_000
UINT32 = struct.Struct("<I")
Fields = dict[bytes, bytes]


class Record(NamedTuple):
    """A record: its fields, where it begins, where its data begin and how many bytes they have."""

    kind: int
    fields: Fields
    position: int
    place: int
    length: int

    @property
    def is_unfinished(self) -> bool:
        """Whether it is the chunk that a recorder was about to fill when it stopped."""
        return self.kind == CHUNK and self.length == 0 and to_number(self.fields, b"size") == 0


class Ros1Records:
    """An open bag of ROS 1 as its records.

    Attributes:
        begin: where the first record behind the header is.
        end: where the file ends.
        header: fields of the bag's header.
        cut_at: where the file was cut off; None if that is not known.
        is_indexed: so that the index says where the chunks are, and damage is an error.

    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the header; ``ValueError`` if it is no bag of ROS 1 that can be read."""
        self._file = file
        self.cut_at: int | None = None
        self.is_indexed = True
        self.end = os.fstat(file.fileno()).st_size
        first = next(self.between(len(VERSION), self.end), None)
        if first is None:
            raise NothingLeft("it was cut off in its header")
        if first.kind != BAG_HEADER:
            raise ValueError("it is no bag of ROS 1: it has no header")
        self.header, self.begin = first.fields, first.place + first.length
        if self.header.get(b"encryptor"):
            raise ValueError(
                "it is encrypted; run: rosbag decrypt --output decrypted.bag, and its name"
            )

    def between(self, begin: int, end: int) -> Iterator[Record]:
        """Yield records; they end where the file was cut off, perhaps with a part of a chunk."""
        while begin < end:
            try:
                record = self._head(begin)
            except (KeyError, ValueError, struct.error):
                self.cut_at = begin
                return
            if record.place + record.length > end:
                self.cut_at = begin
                if record.kind == CHUNK:
                    yield record._replace(length=end - record.place)
                return
            yield record
            begin = record.place + record.length

    def _head(self, position: int) -> Record:
        self._file.seek(position)
        fields = to_fields(self._read(UINT32.unpack(self._file.read(4))[0], MAX_HEADER_BYTES))
        (length,) = UINT32.unpack(self._file.read(4))
        (kind,) = fields[b"op"]
        return Record(kind, fields, position, self._file.tell(), length)

    def _read(self, length: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        if length > limit:
            raise ValueError(f"a record has {length} bytes, more than {limit}")
        content = self._file.read(length)
        if len(content) != length:
            raise ValueError("a record is cut off")
        return content

    def data(self, record: Record) -> bytes:
        """Read the data of a record."""
        self._file.seek(record.place)
        return self._read(record.length)

    def unpack(self, position: int) -> bytes:
        """Return the content of a chunk; the beginning of the one in which the file was cut.

        In a file without an index, the first damaged chunk is where it was cut.
        """
        try:
            return self._unpack(position)
        except Exception:
            if self.is_indexed:
                raise
            self.cut_at = position
            return b""

    def _unpack(self, position: int) -> bytes:
        record = self._head(position)
        if record.kind != CHUNK:
            raise ValueError(f"there is no chunk at {position}")
        method = str(record.fields[b"compression"], "ascii", "replace")
        method, size = "" if method == NOT_PACKED else method, to_number(record.fields, b"size")
        left = self.end - record.place
        if record.is_unfinished:  # it has all that follows
            record = record._replace(length=left)
            size, self.cut_at = min(left, MAX_CHUNK_BYTES), position
        if size > MAX_CHUNK_BYTES:
            raise ValueError(f"the chunk at {position} has {size} bytes")
        if position == self.cut_at:
            record = record._replace(length=min(record.length, left, MAX_CHUNK_BYTES))
            return unpack_beginning(self.data(record), method, size)
        content = unpack(self.data(record), method, size)
        if len(content) != size:
            raise ValueError(f"the chunk at {position} is damaged")
        return content

    def places(self, position: int) -> tuple[bytes, Iterator[Place]]:
        """Return the content of a chunk, and where its messages are."""
        content = self.unpack(position)
        return content, self._find_messages(content, position)

    def _find_messages(self, content: bytes, position: int) -> Iterator[Place]:
        for kind, fields, begin, end in self.inner_records(content, position):
            if kind == MESSAGE:
                yield to_time(fields[b"time"]), to_number(fields, b"conn"), begin, end

    def inner_records(
        self, content: bytes, position: int
    ) -> Iterator[tuple[int, Fields, int, int]]:
        """Yield kind, fields, begin and end of the records in the chunk of a position."""
        place = 0
        while place < len(content):
            try:
                kind, fields, begin, end = _inner_record(content, place)
            except (KeyError, ValueError, struct.error):
                if position == self.cut_at or not self.is_indexed:
                    self.cut_at = position
                    return
                raise
            yield kind, fields, begin, end
            place = end


def _inner_record(content: bytes, place: int) -> tuple[int, Fields, int, int]:
    behind = place + 4 + UINT32.unpack_from(content, place)[0]
    if behind - place > MAX_HEADER_BYTES:
        raise ValueError("a header is too long")
    fields = to_fields(content[place + 4 : behind])
    end = behind + 4 + UINT32.unpack_from(content, behind)[0]
    if end > len(content):
        raise ValueError("a record is longer than its chunk")
    (kind,) = fields[b"op"]
    if kind == MESSAGE and not {b"conn", b"time"} <= fields.keys():
        raise ValueError("a message has no time")
    return kind, fields, behind + 4, end


def to_fields(content: bytes) -> Fields:
    """Return the fields of a header: names and values."""
    fields = {}
    place = 0
    while place < len(content):
        end = place + 4 + UINT32.unpack_from(content, place)[0]
        name, sign, value = content[place + 4 : end].partition(b"=")
        if end > len(content) or not sign:
            raise ValueError("a header is damaged")
        fields[name] = value
        place = end
    return fields


def to_number(fields: Fields, name: bytes) -> int:
    """Return an integer of a header, of 4 or 8 bytes."""
    return int.from_bytes(fields.get(name, b""), "little")


def to_time(value: bytes) -> int:
    """Return nanoseconds."""
    sec, nanosec = struct.unpack("<II", value)
    return int(sec * NANOSECONDS + nanosec)


def to_text(fields: Fields, name: bytes) -> str:
    """Return a short text of a header."""
    value = fields.get(name, b"")
    if len(value) > MAX_NAME_BYTES:
        raise ValueError(f"a name has {len(value)} bytes")
    return str(value, "utf-8")
