# SPDX-License-Identifier: Apache-2.0
"""Image messages of ROS 1 become those of ROS 2, which have the same fields but for ``seq``."""

from __future__ import annotations

import struct

from perception_node.wire.image_messages import (
    CompressedImage,
    ImageHeader,
    RawImage,
    write_compressed,
    write_raw,
)


def convert_raw(data: bytes) -> bytes:
    """Return a sensor_msgs/Image as CDR; ``ValueError`` or ``struct.error`` if it is damaged."""
    header, place = _read_header(data)
    height, width = struct.unpack_from("<II", data, place)
    encoding, place = _octets(data, place + 8)
    is_bigendian, step = struct.unpack_from("<BI", data, place)
    pixels, _ = _octets(data, place + 5)
    return write_raw(RawImage(header, height, width, encoding, is_bigendian, step, pixels))


def convert_compressed(data: bytes) -> bytes:
    """Return a sensor_msgs/CompressedImage as CDR; see ``convert_raw``."""
    header, place = _read_header(data)
    name, place = _octets(data, place)
    content, _ = _octets(data, place)
    return write_compressed(CompressedImage(header, name, content))


def _read_header(data: bytes) -> tuple[ImageHeader, int]:
    """Return a header and where it ends."""
    _, sec, nanosec = struct.unpack_from("<III", data)
    frame_id, place = _octets(data, 12)
    return ImageHeader(sec, nanosec, frame_id), place


def _octets(data: bytes, place: int) -> tuple[bytes, int]:
    """Return a text or a sequence of bytes, and where it ends."""
    (length,) = struct.unpack_from("<I", data, place)
    end = place + 4 + length
    if end > len(data):
        raise ValueError("the message ends too soon")
    return data[place + 4 : end], end
