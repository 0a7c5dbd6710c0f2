# SPDX-License-Identifier: Apache-2.0
"""What a bag has recorded under a topic, and how it becomes a message of ROS 2.

Images are read whoever wrote them: ROS 2 (CDR), ROS 1, and Foxglove as protobuf or JSON. Of other
messages only those of ROS 2 are; the definitions that a bag brings are not needed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from perception_node.wire import foxglove_images, ros1_images
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

# What the parsers of foreign messages raise.
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, struct.error, RecursionError)
MAX_NAME_BYTES = 1024  # of a topic or a type

# By encoding and type: the type of ROS 2 that it becomes, and how.
CONVERSIONS: dict[tuple[str, str], tuple[str, Callable[[bytes], bytes]]] = {
    ("ros1", "sensor_msgs/Image"): (RAW_TYPE, ros1_images.convert_raw),
    ("ros1", "sensor_msgs/CompressedImage"): (COMPRESSED_TYPE, ros1_images.convert_compressed),
    ("protobuf", "foxglove.RawImage"): (RAW_TYPE, foxglove_images.convert_raw_protobuf),
    ("protobuf", "foxglove.CompressedImage"): (
        COMPRESSED_TYPE,
        foxglove_images.convert_compressed_protobuf,
    ),
    ("json", "foxglove.RawImage"): (RAW_TYPE, foxglove_images.convert_raw_json),
    ("json", "foxglove.CompressedImage"): (
        COMPRESSED_TYPE,
        foxglove_images.convert_compressed_json,
    ),
}


class Channel(NamedTuple):
    """What was recorded under one topic.

    Attributes:
        topic: its name.
        type_name: message type of ROS 2, such as ``sensor_msgs/msg/Image``; other types as they
            are called where they come from.
        encoding: how its messages are written, such as ``cdr``.
        convert: makes CDR of a message; None if it is CDR.

    """

    topic: str
    type_name: str
    encoding: str = "cdr"
    convert: Callable[[bytes], bytes] | None = None

    @property
    def is_readable(self) -> bool:
        """Whether its messages are CDR, or become so."""
        return self.encoding == "cdr" or self.convert is not None

    def to_cdr(self, data: bytes) -> bytes:
        """Return a message as CDR; one that is damaged becomes empty, which no reader takes."""
        if self.convert is None:
            return data
        try:
            return self.convert(data)
        except DAMAGE:
            return b""


def make_channel(topic: str, type_name: str, encoding: str) -> Channel:
    """Return a channel for a topic whose messages are written in an encoding."""
    found = CONVERSIONS.get((encoding, type_name.replace("/msg/", "/")))
    if found is None or encoding == "cdr":
        return Channel(topic, type_name, encoding)
    return Channel(topic, found[0], encoding, found[1])
