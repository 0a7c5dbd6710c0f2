# SPDX-License-Identifier: Apache-2.0
"""Write image messages of ROS 2 as CDR, little endian, without a message class."""

from __future__ import annotations

import struct
from typing import NamedTuple

from perception_node.wire.images import LITTLE_ENDIAN

ENCAPSULATION = LITTLE_ENDIAN + b"\0\0"


class ImageHeader(NamedTuple):
    """A std_msgs/Header; the name of the frame is UTF-8."""

    sec: int
    nanosec: int
    frame_id: bytes


class RawImage(NamedTuple):
    """The fields of a sensor_msgs/Image; the encoding is UTF-8."""

    header: ImageHeader
    height: int
    width: int
    encoding: bytes
    is_bigendian: int
    step: int
    data: bytes


class CompressedImage(NamedTuple):
    """The fields of a sensor_msgs/CompressedImage; the format is UTF-8."""

    header: ImageHeader
    format: bytes
    data: bytes


def write_raw(image: RawImage) -> bytes:
    """Return a serialized sensor_msgs/msg/Image; ``struct.error`` if a number does not fit."""
    parts = _begin(image.header)
    _put(parts, struct.pack("<II", image.height, image.width))
    _put_text(parts, image.encoding)
    parts.append(struct.pack("<B", image.is_bigendian))
    _put(parts, struct.pack("<II", image.step, len(image.data)))
    return b"".join((*parts, image.data))


def write_compressed(image: CompressedImage) -> bytes:
    """Return a serialized sensor_msgs/msg/CompressedImage."""
    parts = _begin(image.header)
    _put_text(parts, image.format)
    _put(parts, struct.pack("<I", len(image.data)))
    return b"".join((*parts, image.data))


def _begin(header: ImageHeader) -> list[bytes]:
    parts = [ENCAPSULATION, struct.pack("<iI", header.sec, header.nanosec)]
    _put_text(parts, header.frame_id)
    return parts


def _put_text(parts: list[bytes], text: bytes) -> None:
    _put(parts, struct.pack("<I", len(text) + 1))
    parts.append(text + b"\0")


def _put(parts: list[bytes], numbers: bytes) -> None:
    """Add numbers of 32 bits, which begin at a multiple of four."""
    parts.append(bytes(-sum(map(len, parts)) % 4) + numbers)
