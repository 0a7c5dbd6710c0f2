# SPDX-License-Identifier: Apache-2.0
"""Read serialized messages from rosbag2 bags (mcap and sqlite3), without ROS.

A bag may come from anywhere. It is read here and not by the library that writes ours, as that
unpacks whatever a chunk unpacks to: 192 kB took 12 GB.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from perception_node.errors import BagError
from perception_node.wire.bag_metadata import METADATA, BagMetadata, read_metadata
from perception_node.wire.mcap_file import MAX_CHUNK_BYTES, McapFile
from perception_node.wire.sqlite_file import SqliteFile
from perception_node.wire.unpacking import unpack, unpack_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

MCAP = ".mcap"
MAX_NAMED = 20  # topics in an error
# A file that is packed as a whole may unpack to so many bytes, and so many per byte.
UNPACKED_BYTES, UNPACKED_PER_BYTE = 64 << 20, 100


class BagMessage(NamedTuple):
    """One message as it lies in the bag.

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

    def __init__(self, path: Path, files: Sequence[McapFile | SqliteFile], packing: str) -> None:
        """Take the open files of a bag, in their order, and how each message is packed."""
        self._path = path
        self._files = files
        self._packing = packing

    @property
    def topics(self) -> dict[str, str]:
        """Topics of the bag and their message types."""
        channels = (channel for file in self._files for channel in file.channels.values())
        return {channel.topic: channel.type_name for channel in channels}

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
                known = _some(sorted(fitting)) or "none"
                raise BagError(self._path, f"no such topic: {topic}; choose from: {known}")
        if not fitting:
            held = _some([f"{t} ({kind})" for t, kind in sorted(everything.items())])
            raise BagError(self._path, f"no image topic; it holds {held or 'nothing'}")
        return {topic: kind for topic, kind in fitting.items() if not wanted or topic in wanted}

    def count(self, topics: list[str]) -> int:
        """Return how many messages of these topics there are."""
        return sum(
            file.counts.get(number, 0)
            for file in self._files
            for number, channel in file.channels.items()
            if channel.topic in topics
        )

    def messages(self, topics: list[str]) -> Iterator[BagMessage]:
        """Yield the messages of these topics in the order of their time.

        Raises:
            BagError: the bag is damaged at this place.

        """
        with _bag_errors(self._path):
            for file in self._files:
                for time_ns, (topic, type_name), data in file.messages(topics):
                    unpacked = unpack(data, self._packing, MAX_CHUNK_BYTES)
                    yield BagMessage(topic, type_name, time_ns, unpacked)


def _some(names: list[str]) -> str:
    """Return names on one line, the first of them where there are many."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: its folder, the ``.mcap`` or ``.db3`` file in it, or a lone ``.mcap`` file.

    Raises:
        BagError: there is no bag, or it cannot be read.

    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise BagError(path, "no such bag")
    has_metadata = (folder / METADATA).is_file()
    if not has_metadata and (path.is_dir() or path.suffix != MCAP):
        raise BagError(path, f"{folder} holds no metadata.yaml; run: ros2 bag reindex {folder}")
    with ExitStack() as stack:
        with _bag_errors(path):
            about = read_metadata(folder / METADATA) if has_metadata else BagMetadata([path.name])
            paths = [folder / PurePath(name).name for name in about.files]
            if about.packs_files:
                target = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                paths = [_unpacked(file, target) for file in paths]
            files = [_open_file(file, stack) for file in paths]
        yield Bag(path, files, about.message_packing)


def _open_file(path: Path, stack: ExitStack) -> McapFile | SqliteFile:
    file = stack.enter_context(_open_regular(path))
    if path.suffix == MCAP:
        return McapFile(file)
    database = SqliteFile(path)
    stack.callback(database.close)
    return database


def _open_regular(path: Path) -> BinaryIO:
    """Open a file without waiting for whoever writes into a FIFO."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path.name} is not a regular file")


def _unpacked(path: Path, folder: Path) -> Path:
    """Unpack a file of a bag into a folder, and return where it is then."""
    target = folder / path.stem
    with _open_regular(path) as packed, target.open("wb") as file:
        limit = UNPACKED_BYTES + UNPACKED_PER_BYTE * os.fstat(packed.fileno()).st_size
        unpack_file(packed, file, limit)
    return target


@contextmanager
def _bag_errors(path: Path) -> Iterator[None]:
    """Wrap what a damaged bag makes the reader raise; it parses with many libraries."""
    try:
        yield
    except (BagError, GeneratorExit):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        problem = f"cannot be read: {lines[0][:200] if lines else type(error).__name__}"
        raise BagError(path, problem) from error
