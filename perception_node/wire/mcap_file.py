# SPDX-License-Identifier: Apache-2.0
"""Read the messages of an MCAP file, as rosbag2 writes it, in the order of their time.

Whatever the file states of its sizes, never more than a few chunks are in memory. The format is
described at https://mcap.dev/spec.
"""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from array import array
from typing import TYPE_CHECKING, NamedTuple

from perception_node.wire.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX = 1, 2, 3, 4, 5, 6, 8
STATISTICS, SUMMARY_OFFSET = 0x0B, 0x0E
FOOTER_BYTES = 37  # with the magic behind it
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")

MAX_CHUNK_BYTES = 1 << 28  # unpacked; an image of 64 million pixels fits in
MAX_OPEN_BYTES = 1 << 28  # of all chunks that overlap in time
MAX_CHUNK_MESSAGES = 500_000
MAX_CHUNKS = 1_000_000  # rosbag2 makes one per MB
MAX_SMALL_BYTES = 1 << 24  # of a record that is no chunk and no message
MAX_NAME_BYTES = 1024  # of a topic or a type


class Channel(NamedTuple):
    """What was recorded under one topic."""

    topic: str
    type_name: str


class _Chunk(NamedTuple):
    """Where a chunk lies, when its messages are from, and of which channels (none: unknown)."""

    start: int
    position: int
    channels: array[int]


Stored = tuple[int, Channel, bytes]  # nanoseconds, where from, the serialized message


class McapFile:
    """An open MCAP file.

    Attributes:
        channels: by number.
        counts: messages by number of their channel.

    """

    def __init__(self, file: BinaryIO) -> None:
        """Read what the file holds.

        Raises:
            ValueError, struct.error, OSError: it is no MCAP file of ROS 2, or damaged.

        """
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self._types: dict[int, str] = {}
        self._chunks: list[_Chunk] = []
        self._file = file
        self._begin, summary, self._end = self._read_ends()
        self._data_end = summary or self._end
        has_counts = bool(summary) and self._read_summary()
        if not (has_counts and self.channels):
            self._scan()

    def messages(self, topics: list[str]) -> Iterator[Stored]:
        """Yield the messages of these topics in the order of their time."""
        wanted = {number for number, channel in self.channels.items() if channel.topic in topics}
        found = self._merge(wanted) if self._chunks else self._in_sequence(wanted)
        for time_ns, number, data in found:
            yield time_ns, self.channels[number], data

    def _read_ends(self) -> tuple[int, int, int]:
        """Return where the data begin, the summary begins (0: there is none) and the footer is."""
        size = os.fstat(self._file.fileno()).st_size
        end = size - FOOTER_BYTES
        if self._file.read(len(MAGIC)) != MAGIC or end < len(MAGIC):
            raise ValueError("it is no MCAP file")
        kind, length = RECORD.unpack(self._file.read(RECORD.size))
        profile, _ = _text(self._small(length), 0)
        if kind != HEADER or profile != "ros2":
            raise ValueError("it is no MCAP file of ROS 2")
        begin = self._file.tell()
        self._file.seek(end)
        footer = self._file.read(FOOTER_BYTES)
        if footer[:9] != RECORD.pack(FOOTER, 20) or not footer.endswith(MAGIC):
            raise ValueError("its end is missing; it was cut off")
        (summary,) = struct.unpack_from("<Q", footer, 9)
        if summary and not begin <= summary <= end:
            raise ValueError("its summary lies elsewhere")
        return begin, summary, end

    def _read_summary(self) -> bool:
        """Take in what the summary says; return whether it counts the messages."""
        has_counts = False
        for kind, position, length in self._records(self._data_end, self._end):
            if kind == SUMMARY_OFFSET:
                break
            if kind == STATISTICS:
                content = self._small(length)
                (size,) = struct.unpack_from("<I", content, 42)
                self.counts = dict(struct.iter_unpack("<HQ", content[46 : 46 + size]))
                has_counts = True
            elif kind == CHUNK_INDEX:
                self._chunks.append(self._indexed(self._small(length), position))
                if len(self._chunks) > MAX_CHUNKS:
                    raise ValueError(f"it has more than {MAX_CHUNKS} chunks")
            else:
                self._note(kind, length)
        return has_counts

    def _indexed(self, content: bytes, position: int) -> _Chunk:
        start, _, place, _, size = struct.unpack_from("<QQQQI", content)
        if not self._begin <= place < self._data_end:
            raise ValueError(f"the chunk that is named at {position} lies elsewhere")
        numbers = (number for number, _ in struct.iter_unpack("<HQ", content[36 : 36 + size]))
        return _Chunk(start, place, array("H", numbers))

    def _note(self, kind: int, length: int) -> None:
        if kind in {SCHEMA, CHANNEL}:
            self._define(kind, self._small(length))

    def _define(self, kind: int, content: bytes | memoryview) -> None:
        """Take in a type or a channel."""
        (number,) = struct.unpack_from("<H", content)
        if kind == SCHEMA:
            self._types[number], _ = _text(content, 2)
            return
        (schema,) = struct.unpack_from("<H", content, 2)
        topic, place = _text(content, 4)
        encoding, _ = _text(content, place)
        if encoding != "cdr":
            raise ValueError(f"its messages are written as {encoding[:20]!a}, not as cdr")
        self.channels[number] = Channel(topic, self._types.get(schema, "__schemaless__"))

    def _scan(self) -> None:
        """Look through all data for channels, and count their messages."""
        self.counts = {}
        for kind, content in self._in_data():
            if kind in {SCHEMA, CHANNEL}:
                self._define(kind, content)
            elif kind == MESSAGE:
                (number,) = struct.unpack_from("<H", content)
                self.counts[number] = self.counts.get(number, 0) + 1

    def _in_sequence(self, wanted: set[int]) -> Iterator[tuple[int, int, bytes]]:
        """Yield messages as they lie in the file, which must be in the order of their time."""
        before = -1
        for kind, content in self._in_data():
            if kind != MESSAGE:
                continue
            number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content)
            if number in wanted:
                if time_ns < before:
                    raise ValueError("it has no index and is not in the order of time")
                before = time_ns
                yield time_ns, number, bytes(content[MESSAGE_HEAD.size :])

    def _in_data(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield types, channels and messages, those in chunks among them, as they lie there."""
        for kind, position, length in self._records(self._begin, self._data_end):
            if kind == CHUNK:
                content = self._unpack(position)
                for inner, begin, end in _inner_records(content):
                    yield inner, memoryview(content)[begin:end]
            elif kind in {SCHEMA, CHANNEL}:
                yield kind, self._small(length)
            elif kind == MESSAGE:
                yield kind, self._read(length, MAX_CHUNK_BYTES)

    def _merge(self, wanted: set[int]) -> Iterator[tuple[int, int, bytes]]:
        """Yield the messages of all chunks; a chunk is unpacked when its time has come."""
        waiting = [c for c in self._chunks if not c.channels or not wanted.isdisjoint(c.channels)]
        waiting.sort(key=lambda chunk: chunk[:2], reverse=True)
        opened: list[tuple[int, int, _Opened]] = []
        held = 0
        while opened or waiting:
            while waiting and (not opened or waiting[-1].start <= opened[0][0]):
                chunk = _Opened(self._unpack(waiting[-1].position), wanted)
                held += len(chunk.content)
                if held > MAX_OPEN_BYTES:
                    raise ValueError(f"chunks of more than {MAX_OPEN_BYTES} bytes overlap in time")
                heapq.heappush(opened, (chunk.time, waiting.pop().position, chunk))
            _, position, chunk = opened[0]
            if chunk.is_empty:
                held -= len(chunk.content)
                heapq.heappop(opened)
                continue
            message = chunk.take()
            heapq.heapreplace(opened, (chunk.time, position, chunk))
            yield message

    def _records(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield kind, position and length of the records; the file stands behind the head."""
        while begin < end:
            self._file.seek(begin)
            kind, length = RECORD.unpack(self._file.read(RECORD.size))
            if begin + RECORD.size + length > end:
                raise ValueError(f"the record at {begin} is longer than the file")
            yield kind, begin, length
            begin += RECORD.size + length

    def _unpack(self, position: int) -> bytes:
        """Return the content of the chunk at a position."""
        self._file.seek(position)
        kind, length = RECORD.unpack(self._file.read(RECORD.size))
        head = self._file.read(CHUNK_HEAD.size)
        _, _, size, checksum = CHUNK_HEAD.unpack(head)
        if kind != CHUNK or size > MAX_CHUNK_BYTES:
            raise ValueError(f"the chunk at {position} has {size} bytes or is none")
        rest = self._read(length - CHUNK_HEAD.size, MAX_CHUNK_BYTES)
        method, place = _text(rest, 0)
        (packed,) = struct.unpack_from("<Q", rest, place)
        content = unpack(rest[place + 8 : place + 8 + packed], method, size)
        if len(content) != size or (checksum and zlib.crc32(content) != checksum):
            raise ValueError(f"the chunk at {position} is damaged")
        return content

    def _small(self, length: int) -> bytes:
        return self._read(length, MAX_SMALL_BYTES)

    def _read(self, length: int, limit: int) -> bytes:
        if not 0 <= length <= limit:
            raise ValueError(f"a record has {length} bytes, more than {limit}")
        content = self._file.read(length)
        if len(content) != length:
            raise ValueError("a record is cut off")
        return content


class _Opened:
    """An unpacked chunk, and which of its messages are still to come."""

    def __init__(self, content: bytes, wanted: set[int]) -> None:
        self.content = content
        found = []
        for kind, begin, end in _inner_records(content):
            if kind == MESSAGE:
                number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content, begin)
                if number in wanted:
                    found.append((time_ns, number, begin + MESSAGE_HEAD.size, end))
                    if len(found) > MAX_CHUNK_MESSAGES:
                        raise ValueError(f"a chunk has more than {MAX_CHUNK_MESSAGES} messages")
        found.sort(key=lambda message: message[0])
        self._left = found[::-1]

    @property
    def is_empty(self) -> bool:
        return not self._left

    @property
    def time(self) -> int:
        """When the next message is from; of an empty chunk, now."""
        return self._left[-1][0] if self._left else -1

    def take(self) -> tuple[int, int, bytes]:
        time_ns, number, begin, end = self._left.pop()
        return time_ns, number, self.content[begin:end]


def _inner_records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield kind, begin and end of the records in a chunk."""
    begin = 0
    while begin < len(content):
        kind, length = RECORD.unpack_from(content, begin)
        begin += RECORD.size
        if begin + length > len(content):
            raise ValueError("a record is longer than its chunk")
        yield kind, begin, begin + length
        begin += length


def _text(content: bytes | memoryview, place: int) -> tuple[str, int]:
    """Return a short text and where it ends."""
    (length,) = struct.unpack_from("<I", content, place)
    place += 4
    if length > MAX_NAME_BYTES or place + length > len(content):
        raise ValueError(f"a name has {length} bytes")
    return str(content[place : place + length], "utf-8"), place + length
