# SPDX-License-Identifier: Apache-2.0
"""Read the messages of an MCAP file in the order of their time.

Where the file has no index they are found without; where messages lie outside chunks, they come as
they lie there. Whatever the file states of its sizes, few chunks are in memory.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, NamedTuple

from perception_node.wire.channels import make_channel
from perception_node.wire.chunks import MAX_CHUNKS, Chunk, Cut, read_in_order
from perception_node.wire.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
    McapRecords,
    inner_records,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from perception_node.wire.channels import Channel
    from perception_node.wire.chunks import Message, Stored

NO_SCHEMA, UNKNOWN_TYPE = 0, "__schemaless__"


class _Described(NamedTuple):
    """A channel as the file has it."""

    topic: str
    encoding: str
    schema: int


class McapFile:
    """An open MCAP file.

    Attributes:
        channels: by number.
        counts: messages by number of their channel.
        cut: where the file was cut off; None if it is whole.

    """

    def __init__(self, file: BinaryIO) -> None:
        """Read what the file holds.

        Raises:
            ValueError, struct.error, OSError: it is no MCAP file, or damaged.

        """
        self.counts: dict[int, int] = {}
        self.cut: Cut | None = None
        self._records = McapRecords(file)
        self._described: dict[int, _Described] = {}
        self._types: dict[int, str] = {}
        self._chunks: dict[int, Chunk] = {}  # by position
        self._ends: dict[int, int] = {}  # of chunks with an index, and of the index behind each
        self._in_chunks = True
        self._data_end = self._records.summary or self._records.end
        self._read_all()
        self.channels: dict[int, Channel] = {
            number: make_channel(topic, self._types.get(schema, UNKNOWN_TYPE), encoding)
            for number, (topic, encoding, schema) in self._described.items()
        }

    def messages(self, topics: list[str]) -> Iterator[Stored]:
        """Yield the messages of these topics in the order of their time.

        Raises:
            ValueError: the file is damaged, or its index leaves some out.

        """
        wanted = {number for number, channel in self.channels.items() if channel.topic in topics}
        missing = sum(self.counts.get(number, 0) for number in wanted)
        found = self._by_time(wanted) if self._in_chunks else self._in_sequence(wanted)
        for time_ns, number, data in found:
            missing -= 1
            yield time_ns, self.channels[number], data
        if missing > 0:
            raise ValueError(f"{missing} messages of it are not where its index says")

    def _by_time(self, wanted: set[int]) -> Iterator[Message]:
        return read_in_order(self._chunks.values(), wanted, self._records.places)

    def _read_all(self) -> None:
        has_counts = bool(self._records.summary) and self._read_summary()
        self._find_chunks()
        if not (has_counts and self._described and self._knows_types()):
            self._scan()

    def _knows_types(self) -> bool:
        schemas = {one.schema for one in self._described.values()}
        return schemas <= {NO_SCHEMA, *self._types}

    def _read_summary(self) -> bool:
        """Take in what the summary says; return whether it counts the messages."""
        has_counts = False
        records = self._records
        for kind, position, length in records.between(self._data_end, records.end):
            if kind == SUMMARY_OFFSET:
                break
            if kind == STATISTICS:
                content = records.small(length)
                (size,) = struct.unpack_from("<I", content, 42)
                self.counts = dict(struct.iter_unpack("<HQ", content[46 : 46 + size]))
                has_counts = True
            elif kind == CHUNK_INDEX:
                self._add_chunk(self._indexed(records.small(length), position))
            elif kind in {SCHEMA, CHANNEL}:
                self._define(kind, records.small(length))
        return has_counts

    def _indexed(self, content: bytes, position: int) -> Chunk:
        start, _, place, length, size = struct.unpack_from("<QQQQI", content)
        (index_bytes,) = struct.unpack_from("<Q", content, 36 + size)
        self._ends[place] = place + length + index_bytes
        if not self._records.begin <= place < self._data_end:
            raise ValueError(f"the chunk that is named at {position} lies elsewhere")
        numbers = (number for number, _ in struct.iter_unpack("<HQ", content[36 : 36 + size]))
        return Chunk(start, place, array("H", numbers))

    def _add_chunk(self, chunk: Chunk) -> None:
        self._chunks[chunk.position] = chunk
        if len(self._chunks) > MAX_CHUNKS:
            raise ValueError(f"it has more than {MAX_CHUNKS} chunks")

    def _find_chunks(self) -> None:
        """Find the chunks that no index names, and whether messages lie outside chunks."""
        records = self._records
        for kind, position, _ in records.between(records.begin, self._data_end, self._ends):
            if kind == MESSAGE:
                self._in_chunks = False
                return
            if kind == CHUNK and position not in self._chunks:
                self._add_chunk(Chunk(records.chunk_start(), position, array("H")))

    def _define(self, kind: int, content: bytes | memoryview) -> None:
        """Take in a type or a channel."""
        (number,) = struct.unpack_from("<H", content)
        if kind == SCHEMA:
            self._types[number], _ = text(content, 2)
            return
        (schema,) = struct.unpack_from("<H", content, 2)
        topic, place = text(content, 4)
        encoding, _ = text(content, place)
        self._described[number] = _Described(topic, encoding, schema)

    def _scan(self) -> None:
        """Look through all data for channels, and count their messages."""
        self.counts = {}
        last_ns = 0
        for kind, content in self._in_data():
            if kind == MESSAGE:
                number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content)
                self.counts[number] = self.counts.get(number, 0) + 1
                last_ns = max(last_ns, time_ns)
            else:
                self._define(kind, content)
        if self._records.cut_at is not None:
            self.cut = Cut(self._records.cut_at, last_ns)
            self._chunks = {p: c for p, c in self._chunks.items() if p <= self.cut.position}

    def _in_sequence(self, wanted: set[int]) -> Iterator[Message]:
        """Yield messages as they lie in the file."""
        for kind, content in self._in_data():
            if kind == MESSAGE:
                number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content)
                if number in wanted:
                    yield time_ns, number, bytes(content[MESSAGE_HEAD.size :])

    def _in_data(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield types, channels and messages, those in chunks among them, as they lie there."""
        records = self._records
        for kind, position, length in records.between(records.begin, self._data_end):
            if kind == CHUNK:
                content = records.unpack(position)
                for inner, begin, end in inner_records(content, is_cut=position == records.cut_at):
                    if inner in {SCHEMA, CHANNEL, MESSAGE}:
                        yield inner, memoryview(content)[begin:end]
                if position == records.cut_at:
                    return
            elif kind in {SCHEMA, CHANNEL}:
                yield kind, records.small(length)
            elif kind == MESSAGE:
                yield kind, records.read(length)
