# SPDX-License-Identifier: Apache-2.0
"""Read serialized messages from bags of ROS 2 (mcap, sqlite3) and ROS 1, without ROS.

A bag may come from anywhere. It is read here and not by the library that writes ours, as that
unpacks whatever a chunk unpacks to: 192 kB took 12 GB.
"""

from __future__ import annotations

import shlex
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import BagError
from perception_node.wire.bag_files import find_files, find_repair, open_file, some
from perception_node.wire.chunks import MAX_CHUNK_BYTES, NothingLeft
from perception_node.wire.images import TRANSPORTS
from perception_node.wire.unpacking import ZSTD_MAGIC, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from perception_node.wire.bag_files import BagFile
    from perception_node.wire.channels import Channel
    from perception_node.wire.chunks import Cut


class BagMessage(NamedTuple):
    """One message as it lies in the bag; images of ROS 1 and Foxglove as those of ROS 2.

    Attributes:
        topic: name it was recorded under.
        type_name: message type such as ``sensor_msgs/msg/Image``.
        time_ns: when it was recorded, nanoseconds since the epoch.
        data: the serialized message (CDR).

    """

    topic: str
    type_name: str
    time_ns: int
    data: bytes


class Bag:
    """An open bag."""

    def __init__(self, path: Path, files: Sequence[tuple[Path, BagFile]], lost: list[str]) -> None:
        """Take the open files of a bag, in their order, and a line for each that holds nothing."""
        self._path = path
        self._files = files
        self._lost = lost

    @property
    def _channels(self) -> list[Channel]:
        return [channel for _, file in self._files for channel in file.channels.values()]

    @property
    def topics(self) -> dict[str, str]:
        """Topics whose messages can be read, and their message types."""
        return {c.topic: c.type_name for c in self._channels if c.is_readable}

    @property
    def unreadable(self) -> dict[str, str]:
        """Topics whose messages are not read, and what they are."""
        known = self.topics
        return {
            channel.topic: f"{channel.type_name} as {channel.encoding}"
            for channel in self._channels
            if channel.topic not in known
        }

    @property
    def conversion(self) -> str:
        """The command that makes a bag of ROS 2 of this one; empty where that brings no topics."""
        if all(channel.encoding != "ros1" or channel.is_readable for channel in self._channels):
            return ""
        return f"rosbags-convert --src {shlex.quote(str(self._path))} --dst converted"

    @property
    def remarks(self) -> list[str]:
        """What is to be said of the bag: a line for each file that was cut off."""
        cuts = [_describe_cut(path, file, file.cut) for path, file in self._files if file.cut]
        return cuts + self._lost

    def select(
        self, wanted: list[str] | None, types: tuple[str, ...] | None = None
    ) -> dict[str, str]:
        """Return topics and their types: the ``wanted`` ones, or all; of ``types``, or of any.

        Raises:
            BagError: a wanted topic, or any topic of these types, is missing from the bag.

        """
        everything = self.topics
        fitting = {t: kind for t, kind in everything.items() if types is None or kind in types}
        for topic in wanted or []:
            if topic not in fitting:
                known = some(sorted(fitting)) or "none"
                other = self.unreadable.get(topic)
                problem = f"{topic} holds {other}" if other else f"no such topic: {topic}"
                advice = f"or run: {self.conversion}" if other and self.conversion else ""
                raise BagError(self._path, f"{problem}; choose from: {known}", advice)
        if not fitting:
            held = sorted((everything | self.unreadable).items())
            names = some([f"{topic} ({kind})" for topic, kind in held])
            raise BagError(self._path, f"no image topic; it holds {names or 'nothing'}")
        return {topic: kind for topic, kind in fitting.items() if not wanted or topic in wanted}

    def count(self, topics: list[str]) -> int:
        """Return how many messages of these topics there are."""
        return sum(
            file.counts.get(number, 0)
            for _, file in self._files
            for number, channel in file.channels.items()
            if channel.topic in topics and channel.is_readable
        )

    def messages(self, topics: list[str]) -> Iterator[BagMessage]:
        """Yield the messages of these topics in the order of their time.

        Raises:
            BagError: the bag is damaged at this place.

        """
        for path, file in self._files:
            with _bag_errors(self._path, path):
                for time_ns, channel, data in file.messages(topics):
                    if channel.is_readable:
                        yield BagMessage(
                            channel.topic, channel.type_name, time_ns, _to_cdr(channel, data)
                        )


def _to_cdr(channel: Channel, data: bytes) -> bytes:
    """Return a message as CDR; rosbag2 may have packed each, and CDR never begins so."""
    if data.startswith(ZSTD_MAGIC):
        data = unpack(data, "zstd", MAX_CHUNK_BYTES)
    return channel.to_cdr(data)


def _describe_cut(path: Path, file: BagFile, cut: Cut) -> str:
    numbers = [n for n, channel in file.channels.items() if channel.type_name in TRANSPORTS]
    images = sum(file.counts.get(number, 0) for number in numbers)
    end = f"byte {cut.position}, which is {cut.last_ns / 1e9:.3f} s"
    return f"{path.name} was cut off or not closed: it is read up to {end}; images: {images}"


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: a folder of rosbag2, with its metadata or without, or a file by itself.

    Files are ``.mcap``, ``.db3``, both of them packed by zstd or not, or ``.bag`` of ROS 1. A file
    that is named is read alone, whatever lies beside it.

    Raises:
        BagError: there is no bag, or it cannot be read.

    """
    if not path.exists():
        raise BagError(path, "no such bag")
    with ExitStack() as stack:
        with _bag_errors(path):
            paths = find_files(path)
        files, lost = [], []
        for file in paths:
            with _bag_errors(path, file):
                try:
                    files.append(open_file(file, stack))
                except NothingLeft as error:
                    if len(paths) == 1:
                        raise
                    lost.append(f"{file.name} is left out: {error}")
        yield Bag(path, files, lost)


@contextmanager
def _bag_errors(bag: Path, file: Path | None = None) -> Iterator[None]:
    """Wrap what a damaged bag makes the reader raise; it parses with many libraries."""
    try:
        yield
    except (BagError, GeneratorExit):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        which = "" if file in {None, bag} else f"{file.name} "
        problem = f"{which}cannot be read: {lines[0][:500] if lines else type(error).__name__}"
        repair = find_repair(file) if file and "; run: " not in problem else ""
        raise BagError(bag, problem, f"try: {repair}" if repair else "") from error
