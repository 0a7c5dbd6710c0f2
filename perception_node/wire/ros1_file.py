# SPDX-License-Identifier: Apache-2.0
"""Read the messages of a ``.bag`` file of ROS 1 in the order of their time, indexed or not."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from perception_node.wire.channels import make_channel
from perception_node.wire.chunks import MAX_CHUNKS, Chunk, Cut, read_in_order
from perception_node.wire.ros1_records import (
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    MESSAGE,
    Ros1Records,
    to_fields,
    to_number,
    to_text,
    to_time,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from perception_node.wire.channels import Channel
    from perception_node.wire.chunks import Stored
    from perception_node.wire.ros1_records import Fields

MAX_CHANNELS = 1 << 16


class Ros1File:
    """An open bag of ROS 1; see ``McapFile``."""

    def __init__(self, file: BinaryIO) -> None:
        """Read what the bag holds.

        Raises:
            ValueError, KeyError, struct.error, OSError: it is no bag of ROS 1, or damaged.

        """
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        self.cut: Cut | None = None
        self._records = Ros1Records(file)
        self._chunks: list[Chunk] = []
        if not self._read_index():
            self._scan()

    def messages(self, topics: list[str]) -> Iterator[Stored]:
        """Yield the messages of these topics in the order of their time."""
        wanted = {number for number, channel in self.channels.items() if channel.topic in topics}
        missing = sum(self.counts[number] for number in wanted)
        for time_ns, number, data in read_in_order(self._chunks, wanted, self._records.places):
            missing -= 1
            yield time_ns, self.channels[number], data
        if missing > 0:
            raise ValueError(f"{missing} messages of it are not where its index says")

    def _read_index(self) -> bool:
        """Take in the index at the end; return whether there is all of one."""
        records, header = self._records, self._records.header
        begin = to_number(header, b"index_pos")
        if begin < records.begin:
            return False
        try:
            for record in records.between(begin, records.end):
                if record.kind == CONNECTION:
                    self._define(record.fields, records.data(record))
                elif record.kind == CHUNK_INFO:
                    self._add_chunk(self._indexed(record.fields, records.data(record)))
        except (KeyError, ValueError, struct.error):
            return False
        return (
            records.cut_at is None
            and len(self._chunks) == to_number(header, b"chunk_count")
            and len(self.channels) == to_number(header, b"conn_count")
        )

    def _indexed(self, fields: Fields, content: bytes) -> Chunk:
        counts = array("I", content)
        numbers = array("I", counts[::2])
        for number, count in zip(numbers, counts[1::2], strict=True):
            self.counts[number] += count
        start = to_time(fields[b"start_time"]) if b"start_time" in fields else 0
        return Chunk(start, to_number(fields, b"chunk_pos"), numbers)

    def _scan(self) -> None:
        """Look through all chunks for connections and messages, as the index is not there."""
        self.channels, self._chunks = {}, []
        self.counts.clear()
        records = self._records
        records.cut_at, records.is_indexed = None, False
        last_ns = 0
        for record in records.between(records.begin, records.end):
            if record.kind == CONNECTION:
                self._define(record.fields, records.data(record))
            elif record.kind == CHUNK:
                last_ns = max(last_ns, self._scan_chunk(record.position))
                if record.position == records.cut_at:
                    break
        end = self._records.cut_at
        self.cut = Cut(records.end if end is None else end, last_ns)

    def _scan_chunk(self, position: int) -> int:
        """Take in what a chunk holds; return when its last message is from."""
        content = self._records.unpack(position)
        times = []
        for kind, fields, begin, end in self._records.inner_records(content, position):
            if kind == CONNECTION:
                self._define(fields, content[begin:end])
            elif kind == MESSAGE:
                self.counts[to_number(fields, b"conn")] += 1
                times.append(to_time(fields[b"time"]))
        self._add_chunk(Chunk(min(times, default=0), position, array("I")))
        return max(times, default=0)

    def _add_chunk(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        if len(self._chunks) > MAX_CHUNKS:
            raise ValueError(f"it has more than {MAX_CHUNKS} chunks")

    def _define(self, fields: Fields, content: bytes) -> None:
        """Take in a connection, which others call a channel."""
        topic, kind = to_text(fields, b"topic"), to_text(to_fields(content), b"type")
        names = [name for name in topic.split("/") if name]
        number = to_number(fields, b"conn")
        self.channels[number] = make_channel("/" + "/".join(names), kind, "ros1")
        if len(self.channels) > MAX_CHANNELS:
            raise ValueError(f"it has more than {MAX_CHANNELS} connections")
