# SPDX-License-Identifier: Apache-2.0
"""Bags as other recorders leave them: MCAP with and without indexes, ROS 1, Foxglove's images."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

import lz4.frame
import numpy as np
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from tests.builders import START_NS
from tests.hostile_bags import MAGIC, record, text, zstd

if TYPE_CHECKING:
    from pathlib import Path

ROS1 = get_typestore(Stores.ROS1_NOETIC)
PACKERS = {"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}


class Row(NamedTuple):
    """A message, and the channel that it belongs to."""

    topic: str
    schema: str
    encoding: str
    time_ns: int
    data: bytes


def make_mcap(
    rows,
    *,
    chunk_rows: int = 2,
    packing: str = "",
    summary: bool = True,
    chunk_index: bool = True,
    message_index: bool = True,
    statistics: bool = True,
    profile: str = "ros2",
) -> bytes:
    """Return an MCAP file; ``chunk_rows`` 0 writes no chunks."""
    channels = dict.fromkeys((row.topic, row.schema, row.encoding) for row in rows)
    numbers = {channel: number for number, channel in enumerate(channels, start=1)}
    defined = b"".join(
        record(3, struct.pack("<H", number) + text(schema) + text("other") + text(""))
        + record(4, struct.pack("<HH", number, number) + text(topic) + text(encoding) + text(""))
        for (topic, schema, encoding), number in numbers.items()
    )
    data = MAGIC + record(1, text(profile) + text("test"))
    written = [(numbers[row[:3]], row.time_ns, row.data) for row in rows]
    indexes = []
    if not chunk_rows:
        data += defined + b"".join(_message(*one) for one in written)
    for begin in range(0, len(written) if chunk_rows else 0, chunk_rows or 1):
        part = written[begin : begin + chunk_rows]
        content = defined + b"".join(_message(*one) for one in part)
        index = _message_index(part) if message_index else {}
        times = [time_ns for _, time_ns, _ in part]
        chunk = _chunk(content, packing, times)
        head = struct.pack("<QQQQ", min(times), max(times), len(data), len(chunk))
        offsets = b"".join(struct.pack("<HQ", number, 0) for number in index)
        head += struct.pack("<I", len(offsets)) + offsets
        behind = b"".join(index.values())
        indexes.append(
            record(8, head + struct.pack("<Q", len(behind)) + text(packing) + bytes(16))
        )
        data += chunk + behind
    data += record(0x0F, bytes(4))
    start = len(data) if summary else 0
    if summary:
        data += defined + (_statistics(written, len(indexes)) if statistics else b"")
        data += b"".join(indexes) if chunk_index else b""
    return data + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC


def _message(number, time_ns, data):
    return record(5, struct.pack("<HIQQ", number, 0, time_ns, time_ns) + data)


def _chunk(content, packing, times):
    packed = PACKERS[packing](content)
    head = struct.pack("<QQQI", min(times), max(times), len(content), zlib.crc32(content))
    return record(6, head + text(packing) + struct.pack("<Q", len(packed)) + packed)


def _message_index(part):
    entries = {}
    for number, time_ns, _ in part:
        entries[number] = entries.get(number, b"") + struct.pack("<QQ", time_ns, 0)
    return {
        number: record(7, struct.pack("<HI", number, len(entry)) + entry)
        for number, entry in entries.items()
    }


def _statistics(written, chunks):
    counts = {}
    for number, _, _ in written:
        counts[number] = counts.get(number, 0) + 1
    counted = b"".join(struct.pack("<HQ", *one) for one in counts.items())
    head = struct.pack("<QHIIIIQQ", len(written), 1, len(counts), 0, 0, chunks, 1, 1)
    return record(11, head + struct.pack("<I", len(counted)) + counted)


def write_ros1(path: Path, rows, compression=None, chunk_bytes: int = 1 << 20) -> Path:
    """Write (topic, type, time_ns, message of ROS 1) rows as a bag of ROS 1."""
    writer = Writer(path)
    writer.chunk_threshold = chunk_bytes
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections = {}
        for topic, kind, time_ns, data in rows:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=ROS1)
            writer.write(connections[topic], time_ns, data)
    return path


def _ros1_header(stamp_ns, frame_id):
    time = ROS1.types["builtin_interfaces/msg/Time"](
        sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
    )
    return ROS1.types["std_msgs/msg/Header"](seq=7, stamp=time, frame_id=frame_id)


def ros1_image(pixels, encoding="rgb8", *, stamp_ns=START_NS, frame_id="camera") -> bytes:
    kind = "sensor_msgs/msg/Image"
    message = ROS1.types[kind](
        header=_ros1_header(stamp_ns, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )
    return bytes(ROS1.serialize_ros1(message, kind))


def ros1_compressed(data, *, stamp_ns=START_NS, frame_id="camera") -> bytes:
    kind = "sensor_msgs/msg/CompressedImage"
    message = ROS1.types[kind](
        header=_ros1_header(stamp_ns, frame_id),
        format="jpeg",
        data=np.frombuffer(data, np.uint8),
    )
    return bytes(ROS1.serialize_ros1(message, kind))


def ros1_string(words: str) -> bytes:
    kind = "std_msgs/msg/String"
    return bytes(ROS1.serialize_ros1(ROS1.types[kind](data=words), kind))


# Foxglove's messages, by the field numbers and names of its schemas


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 1 << 7:
        octets.append(value & 0x7F | 1 << 7)
        value >>= 7
    return bytes((*octets, value))


def protobuf(fields: dict[int, int | bytes]) -> bytes:
    parts = []
    for number, value in fields.items():
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            parts += [_varint(number << 3 | 2), _varint(len(value)), value]
    return b"".join(parts)


def _timestamp(stamp_ns: int) -> bytes:
    return protobuf({1: stamp_ns // 10**9, 2: stamp_ns % 10**9})


def protobuf_raw(pixels, encoding="rgb8", *, stamp_ns=START_NS) -> bytes:
    height, width = pixels.shape[:2]
    return protobuf(
        {
            1: _timestamp(stamp_ns),
            7: b"camera",
            2: width,
            3: height,
            4: encoding.encode(),
            5: pixels.strides[0],
            6: pixels.tobytes(),
        }
    )


def protobuf_compressed(data, *, stamp_ns=START_NS) -> bytes:
    return protobuf({1: _timestamp(stamp_ns), 4: b"camera", 2: data, 3: b"jpeg"})


def _json_header(stamp_ns: int) -> dict:
    time = {"sec": stamp_ns // 10**9, "nsec": stamp_ns % 10**9}
    return {"timestamp": time, "frame_id": "camera"}


def json_raw(pixels, encoding="rgb8", *, stamp_ns=START_NS) -> bytes:
    height, width = pixels.shape[:2]
    fields = {"width": width, "height": height, "encoding": encoding, "step": pixels.strides[0]}
    data = b64encode(pixels.tobytes()).decode()
    return json.dumps({**_json_header(stamp_ns), **fields, "data": data}).encode()


def json_compressed(data, *, stamp_ns=START_NS) -> bytes:
    fields = {"format": "jpeg", "data": b64encode(data).decode()}
    return json.dumps({**_json_header(stamp_ns), **fields}).encode()
