# SPDX-License-Identifier: Apache-2.0
"""Read the messages of a ``.db3`` file, as rosbag2 writes it, in the order of their time.

A database can be a program: a view makes any number of rows of any size. So only plain tables are
read, and no value before its size is known.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from typing import TYPE_CHECKING
from urllib.parse import quote

from perception_node.wire.channels import MAX_NAME_BYTES, make_channel
from perception_node.wire.chunks import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perception_node.wire.channels import Channel
    from perception_node.wire.chunks import Cut, Stored

MAX_DEFINITIONS = 100  # tables and indices; rosbag2 makes six
MAX_DEFINITION_CHARACTERS = 10_000
MAX_TOPICS = 10_000
COMPUTED = re.compile(r"\b(virtual|generated|as)\b", re.IGNORECASE)
TABLES = {"messages", "topics"}
HEAD = struct.Struct(">16xH6xII60xI4x")  # bytes of a page, changes, pages, pages are of change


class SqliteFile:
    """An open database of messages; see ``McapFile``."""

    def __init__(self, path: Path) -> None:
        """Read what the file holds.

        Raises:
            ValueError, sqlite3.Error: it is no database of rosbag2, or damaged.

        """
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.cut: Cut | None = None
        _require_whole(path)
        self._database = sqlite3.connect(_to_uri(path), uri=True)
        try:
            self._check_definitions()
            self._read_topics()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, topics: list[str]) -> Iterator[Stored]:
        """Yield the messages of these topics in the order of their time."""
        numbers = [n for n, channel in self.channels.items() if channel.topic in topics]
        places = ",".join("?" * len(numbers))
        rows = self._database.execute(
            "SELECT topic_id, timestamp, length(data), CASE WHEN length(data) <= ? THEN data END "  # noqa: S608 - only question marks
            f"FROM messages WHERE topic_id IN ({places}) ORDER BY timestamp",
            [MAX_CHUNK_BYTES, *numbers],
        )
        for number, time_ns, size, data in rows:
            if not isinstance(data, bytes) or type(time_ns) is not int:
                raise ValueError(f"a message of {size} bytes is too large or no message")
            yield time_ns, self.channels[number], data

    def _check_definitions(self) -> None:
        rows = self._database.execute(
            "SELECT type, name, substr(sql, 1, ?) FROM sqlite_master", [MAX_DEFINITION_CHARACTERS]
        ).fetchmany(MAX_DEFINITIONS)
        tables = {name for kind, name, _ in rows if kind == "table"}
        if not tables >= TABLES:
            raise ValueError("it is no database of rosbag2, which has messages and topics")
        for kind, name, sql in rows:
            text = str(sql or "")
            too_long = len(text) == MAX_DEFINITION_CHARACTERS or len(rows) == MAX_DEFINITIONS
            if kind not in {"table", "index"} or too_long or COMPUTED.search(text):
                raise ValueError(f"it has {str(name)[:40]!a}, which rosbag2 does not make")

    def _read_topics(self) -> None:
        rows = self._database.execute(
            "SELECT id, substr(name, 1, ?), substr(type, 1, ?), serialization_format FROM topics",
            [MAX_NAME_BYTES, MAX_NAME_BYTES],
        ).fetchmany(MAX_TOPICS)
        for number, topic, type_name, encoding in rows:
            self.channels[number] = make_channel(
                str(topic), str(type_name), str(encoding)[:MAX_NAME_BYTES]
            )
        counted = "SELECT topic_id, count(*) FROM messages GROUP BY topic_id"
        self.counts = dict(self._database.execute(counted).fetchmany(MAX_TOPICS))


def _to_uri(path: Path) -> str:
    """Return what opens a database as it is; messages may still be in the log beside it."""
    log = path.with_name(f"{path.name}-wal")
    has_log = log.is_file() and log.stat().st_size > 0
    return f"file:{quote(str(path.absolute()))}?mode=ro{'' if has_log else '&immutable=1'}"


def _require_whole(path: Path) -> None:
    """Raise ``ValueError`` if the file is shorter than it says; SQLite would not always see it."""
    with path.open("rb") as file:
        head = file.read(HEAD.size)
        size = os.fstat(file.fileno()).st_size
    if len(head) < HEAD.size:
        raise ValueError("it was cut off in its header")
    page_bytes, change, pages, valid_for = HEAD.unpack(head)
    page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
    if change == valid_for and size < page_bytes * pages:
        raise ValueError(f"it was cut off: it has {size} bytes of {page_bytes * pages}")
