# SPDX-License-Identifier: Apache-2.0
"""Read chunks of messages in the order of their time; few of them are unpacked at a time.

MCAP and ROS 1 have both: messages in chunks, which may overlap in time.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from perception_node.wire.channels import Channel

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Iterator

MAX_CHUNK_BYTES = 1 << 28  # unpacked; an image of 64 million pixels fits in
MAX_OPEN_BYTES = 1 << 28  # of all chunks that overlap in time
MAX_CHUNK_MESSAGES = 500_000
MAX_CHUNKS = 1_000_000  # rosbag2 makes one per MB

Stored = tuple[int, Channel, bytes]  # nanoseconds, where from, the serialized message
Message = tuple[int, int, bytes]  # nanoseconds, number of the channel, the serialized message
Place = tuple[int, int, int, int]  # nanoseconds, number of the channel, begin and end


class NothingLeft(ValueError):
    """A file was cut off before anything that could be read."""


class Chunk(NamedTuple):
    """Where a chunk lies, when its messages are from, and of which channels (none: unknown)."""

    start: int
    position: int
    channels: array[int]


class Cut(NamedTuple):
    """Where a file was cut off, and when the last message before that is from (0: none is)."""

    position: int
    last_ns: int


def read_in_order(
    chunks: Iterable[Chunk],
    wanted: set[int],
    unpack: Callable[[int], tuple[bytes, Iterable[Place]]],
) -> Iterator[Message]:
    """Yield the wanted channels' messages; a chunk is unpacked when its time has come.

    Args:
        chunks: of one file.
        wanted: numbers of channels.
        unpack: returns the content of the chunk at a position, and where its messages are.

    Raises:
        ValueError: more than ``MAX_OPEN_BYTES`` overlap in time.

    """
    waiting = [c for c in chunks if not c.channels or not wanted.isdisjoint(c.channels)]
    waiting.sort(key=lambda chunk: chunk[:2], reverse=True)
    opened: list[tuple[int, int, _Opened]] = []
    held = 0
    while opened or waiting:
        while waiting and (not opened or waiting[-1].start <= opened[0][0]):
            chunk = _Opened(*unpack(waiting[-1].position), wanted)
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


class _Opened:
    """An unpacked chunk, and which of its messages are still to come."""

    def __init__(self, content: bytes, places: Iterable[Place], wanted: set[int]) -> None:
        self.content = content
        found = []
        for place in places:
            if place[1] in wanted:
                found.append(place)
                if len(found) > MAX_CHUNK_MESSAGES:
                    raise ValueError(f"a chunk has more than {MAX_CHUNK_MESSAGES} messages")
        found.sort(key=lambda place: place[0])
        self._left = found[::-1]

    @property
    def is_empty(self) -> bool:
        return not self._left

    @property
    def time(self) -> int:
        """When the next message is from; of an empty chunk, now."""
        return self._left[-1][0] if self._left else -1

    def take(self) -> Message:
        time_ns, number, begin, end = self._left.pop()
        return time_ns, number, self.content[begin:end]
