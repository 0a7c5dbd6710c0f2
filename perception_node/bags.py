# SPDX-License-Identifier: Apache-2.0
"""Read serialized messages from rosbag2 bags (mcap and sqlite3), without ROS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from rosbags.rosbag2 import Reader

from perception_node.errors import BagError
from perception_node.files import require_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_METADATA_BYTES = 4 << 20


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

    def __init__(self, path: Path, reader: Reader) -> None:
        self._path = path
        self._reader = reader

    @property
    def topics(self) -> dict[str, str]:
        """Topics of the bag and their message types."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

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
                known = ", ".join(sorted(fitting)) or "none"
                raise BagError(self._path, f"no such topic: {topic}; choose from: {known}")
        if not fitting:
            held = ", ".join(f"{t} ({kind})" for t, kind in sorted(everything.items()))
            raise BagError(self._path, f"no image topic; it holds {held or 'nothing'}")
        return {topic: kind for topic, kind in fitting.items() if not wanted or topic in wanted}

    def count(self, topics: list[str]) -> int:
        """Return how many messages of these topics there are."""
        return sum(c.msgcount for c in self._reader.connections if c.topic in topics)

    def messages(self, topics: list[str]) -> Iterator[BagMessage]:
        """Yield the messages of these topics in the order of their time.

        Raises:
            BagError: the bag is damaged at this place.

        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        with _bag_errors(self._path):
            for connection, time_ns, data in self._reader.messages(connections):
                yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(data))


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: its folder, the ``.mcap`` or ``.db3`` file in it, or a lone ``.mcap`` file.

    Raises:
        BagError: there is no bag, or it cannot be read.

    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise BagError(path, "no such bag")
    metadata = folder / "metadata.yaml"
    has_metadata = metadata.is_file()
    if not has_metadata and (path.is_dir() or path.suffix != ".mcap"):
        raise BagError(path, f"{folder} holds no metadata.yaml; run: ros2 bag reindex {folder}")
    reader = None
    with _bag_errors(path):
        if has_metadata:
            require_regular_file(metadata, MAX_METADATA_BYTES)
            _require_files(folder)
        else:
            require_regular_file(path)
        reader = Reader(folder if has_metadata else path)
        reader.open()
    try:
        yield Bag(path, reader)
    finally:
        reader.close()


def _require_files(folder: Path) -> None:
    """Require that the metadata can name nothing in a bag's folder whose reading never ends."""
    for entry in folder.iterdir():
        if entry.exists() and not entry.is_dir():
            try:
                require_regular_file(entry)
            except OSError as error:
                msg = f"{entry.name}: {error.strerror or error}; take it out of the folder"
                raise OSError(msg) from error


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
