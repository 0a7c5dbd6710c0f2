# SPDX-License-Identifier: Apache-2.0
"""Bags that unpack to far more than they have, and other ways to take the memory of a reader."""

from __future__ import annotations

import bz2
import io
import sqlite3
import struct
import sys
from typing import TYPE_CHECKING

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
MIB = 1 << 20
METADATA = """rosbag2_bagfile_information:
  version: 5
  storage_identifier: {storage}
  duration: {{nanoseconds: 1}}
  starting_time: {{nanoseconds_since_epoch: 1}}
  message_count: 1
  topics_with_message_count: []
  compression_format: {method}
  compression_mode: {mode}
  relative_file_paths: [{name}]
"""


def zeros(method: str, mib: int) -> bytes:
    """Return so many MiB of zeros, packed; never holds them."""
    buffer = io.BytesIO()
    opened = zstd.open(buffer, "wb") if method == "zstd" else lz4.frame.open(buffer, "wb")
    with opened as file:
        for _ in range(mib):
            file.write(bytes(MIB))
    return buffer.getvalue()


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def definitions() -> bytes:
    """Return a type and a channel."""
    schema = struct.pack("<H", 1) + text("std_msgs/msg/String") + text("ros2msg") + text("")
    channel = struct.pack("<HH", 1, 1) + text("/talk") + text("cdr") + text("")
    return record(3, schema) + record(4, channel)


def message(time_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", 1, 0, time_ns, time_ns) + data)


def chunk(method: str, packed: bytes, size: int) -> bytes:
    """Return a chunk that states to unpack to ``size`` bytes."""
    head = struct.pack("<QQQI", 1, 1, size, 0) + text(method)
    return record(6, head + struct.pack("<Q", len(packed)) + packed)


def index(position: int, end: int = 1) -> bytes:
    """Return the index entry of a chunk with messages of channel 1."""
    numbers = struct.pack("<HQ", 1, 0)
    content = struct.pack("<QQQQI", 1, end, position, 0, len(numbers)) + numbers
    return record(8, content + struct.pack("<Q", 0) + text("") + struct.pack("<QQ", 0, 0))


def mcap(data: bytes, indices=(), counts: int = 1) -> bytes:
    """Return a file with these records; ``indices``: where in them chunks begin."""
    begin = MAGIC + record(1, text("ros2") + text("test"))
    summary = b""
    if indices:
        counted = struct.pack("<HQ", 1, counts)
        statistics = struct.pack("<QHIIIIQQI", counts, 1, 1, 0, 0, len(indices), 1, 1, 10)
        summary = definitions() + record(11, statistics + counted)
        summary += b"".join(index(len(begin) + place) for place in indices)
    start = len(begin) + len(data) if indices else 0
    footer = record(2, struct.pack("<QQI", start, 0, 0))
    return begin + data + summary + footer + MAGIC


def lying_chunk(method: str) -> bytes:
    """Return a file whose chunk unpacks to 1 GiB and states 1 MiB."""
    return mcap(definitions() + chunk(method, zeros(method, 1024), MIB))


def honest_chunk(method: str) -> bytes:
    """Return a file whose chunk unpacks to 1 GiB and says so."""
    place = len(definitions())
    data = definitions() + chunk(method, zeros(method, 1024), 1024 * MIB)
    return mcap(data, [place])


def overlapping_chunks() -> bytes:
    """Return 40 chunks of 100 MiB each, all of the same time."""
    head = struct.pack("<BQ", 5, 100 * MIB - 9) + struct.pack("<HIQQ", 1, 0, 1, 1)
    buffer = io.BytesIO()
    with zstd.open(buffer, "wb") as file:
        file.write(head + bytes(MIB - len(head)))
        for _ in range(99):
            file.write(bytes(MIB))
    packed = chunk("zstd", buffer.getvalue(), 100 * MIB)
    return mcap(packed * 40, [len(packed) * n for n in range(40)], 40)


def ros1_chunk(size: int, *, is_indexed: bool) -> bytes:
    """Return a bag of ROS 1 whose chunk unpacks to 1 GiB and states ``size``."""
    packed = bz2.compress(bytes(MIB)) * 1024
    start = b"#ROSBAG V2.0\n"
    header = {"op": b"\3", "conn_count": _uint32(1), "chunk_count": _uint32(1)}
    chunk = ros1_record({"op": b"\5", "compression": b"bz2", "size": _uint32(size)}, packed)
    first = ros1_record({**header, "index_pos": bytes(8)})
    place = len(start) + len(first)
    index = struct.pack("<Q", place + len(chunk) if is_indexed else 0)
    about = ros1_record({"topic": b"/talk", "type": b"sensor_msgs/Image"})
    connection = ros1_record({"op": b"\7", "conn": bytes(4), "topic": b"/talk"}, about[4:-4])
    times = {"start_time": bytes(8), "end_time": bytes(8)}
    info = {"op": b"\6", "ver": _uint32(1), "count": _uint32(1), **times}
    listed = ros1_record({**info, "chunk_pos": struct.pack("<Q", place)}, _uint32(0) + _uint32(1))
    return start + ros1_record({**header, "index_pos": index}) + chunk + connection + listed


def _uint32(value: int) -> bytes:
    return struct.pack("<I", value)


def ros1_record(fields: dict[str, bytes], data: bytes = b"") -> bytes:
    joined = [name.encode() + b"=" + value for name, value in fields.items()]
    head = b"".join(_uint32(len(field)) + field for field in joined)
    return _uint32(len(head)) + head + _uint32(len(data)) + data


def long_record() -> bytes:
    """Return a file with a record that states 2 GiB."""
    return mcap(struct.pack("<BQ", 4, 2048 * MIB) + bytes(10))


def write_folder(folder: Path, content: bytes, name: str, *, mode="none", method="") -> Path:
    """Write a bag of one file."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    storage = "mcap" if ".mcap" in name else "sqlite3"
    about = METADATA.format(storage=storage, mode=mode, method=method or '""', name=name)
    (folder / "metadata.yaml").write_text(about)
    return folder


def database(path: Path, *statements: str) -> bytes:
    """Return a database made by these statements."""
    made = sqlite3.connect(path)
    for statement in statements:
        made.execute(statement)
    made.commit()
    made.close()
    content = path.read_bytes()
    path.unlink()
    return content


TOPICS = "CREATE TABLE topics(id INTEGER, name TEXT, type TEXT, serialization_format TEXT)"
TOPIC = "INSERT INTO topics VALUES(1, '/talk', 'std_msgs/msg/String', 'cdr')"
VIEW = (
    "CREATE VIEW messages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) "
    "SELECT x AS id, 1 AS topic_id, x AS timestamp, zeroblob(900000000) AS data FROM n LIMIT 5"
)
COMPUTED = (
    "CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, "
    "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)))"
)
NUMBER = "CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, data BLOB)"
