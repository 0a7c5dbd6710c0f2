# SPDX-License-Identifier: Apache-2.0
"""``foxglove.RawImage`` and ``foxglove.CompressedImage``, as protobuf or JSON, become ROS 2's.

The schemas are at https://docs.foxglove.dev/docs/sdk/schemas.
"""

from __future__ import annotations

import json
from binascii import a2b_base64
from typing import Any

from perception_node.wire.image_messages import (
    CompressedImage,
    ImageHeader,
    RawImage,
    write_compressed,
    write_raw,
)

# Parsed, JSON can take twenty times its bytes. A raw image of 1080p has 8 MB.
MAX_JSON_BYTES = 16 << 20
MAX_VARINT_BYTES = 10
HIGHEST_FIELD = 7  # of the messages above; what other numbers hold is not kept
VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5
Fields = dict[int, Any]


def convert_raw_protobuf(data: bytes) -> bytes:
    """Return a RawImage as CDR of sensor_msgs/msg/Image.

    Raises:
        ValueError, struct.error, IndexError: it is damaged.

    """
    fields = _read_protobuf(data)
    image = RawImage(
        header=_to_header(fields.get(1, b""), fields.get(7, b"")),
        height=fields.get(3, 0),
        width=fields.get(2, 0),
        encoding=fields.get(4, b""),
        is_bigendian=0,
        step=fields.get(5, 0),
        data=fields.get(6, b""),
    )
    return write_raw(image)


def convert_compressed_protobuf(data: bytes) -> bytes:
    """Return a CompressedImage as CDR; see ``convert_raw_protobuf``."""
    fields = _read_protobuf(data)
    header = _to_header(fields.get(1, b""), fields.get(4, b""))
    return write_compressed(CompressedImage(header, fields.get(3, b""), fields.get(2, b"")))


def convert_raw_json(data: bytes) -> bytes:
    """Return a RawImage as CDR.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, struct.error: it is damaged.
        RecursionError: it is too deep.

    """
    fields = _read_json(data)
    image = RawImage(
        header=_header_of(fields),
        height=fields["height"],
        width=fields["width"],
        encoding=fields["encoding"].encode(),
        is_bigendian=0,
        step=fields["step"],
        data=a2b_base64(fields["data"]),
    )
    return write_raw(image)


def convert_compressed_json(data: bytes) -> bytes:
    """Return a CompressedImage as CDR; see ``convert_raw_json``."""
    fields = _read_json(data)
    content, name = a2b_base64(fields["data"]), fields.get("format", "").encode()
    return write_compressed(CompressedImage(_header_of(fields), name, content))


def _read_json(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON are more than {MAX_JSON_BYTES}")
    fields: dict[str, Any] = json.loads(data)
    return fields


def _header_of(fields: dict[str, Any]) -> ImageHeader:
    time = fields["timestamp"]
    nanosec = time["nsec"] if "nsec" in time else time["nanosec"]
    return ImageHeader(time["sec"], nanosec, fields.get("frame_id", "").encode())


def _to_header(timestamp: bytes, frame_id: bytes) -> ImageHeader:
    """Take a google.protobuf.Timestamp apart."""
    time = _read_protobuf(timestamp)
    return ImageHeader(time.get(1, 0), time.get(2, 0), frame_id)


def _read_protobuf(data: bytes) -> Fields:
    """Return integers and bytes of a message by their number, up to ``HIGHEST_FIELD``."""
    fields: Fields = {}
    value: Any
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(data, place)
        elif kind == LENGTH_DELIMITED:
            length, place = _varint(data, place)
            value = data[place : place + length]
            place += length
        elif kind in {FIXED_32, FIXED_64}:
            value = None
            place += 4 if kind == FIXED_32 else 8
        else:
            raise ValueError(f"protobuf has no field of kind {kind}")
        if number <= HIGHEST_FIELD:
            fields[number] = value
    if place != len(data):
        raise ValueError("the message ends too soon")
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return an integer and where it ends."""
    value = 0
    for number in range(MAX_VARINT_BYTES):
        octet = data[place + number]
        value |= (octet & 0x7F) << 7 * number
        if octet < 1 << 7:
            return value, place + number + 1
    raise ValueError("a number of protobuf is too long")
