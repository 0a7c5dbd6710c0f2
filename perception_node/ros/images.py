# SPDX-License-Identifier: Apache-2.0
"""From an image message to a Frame, without copying raw pixels.

Mostly from its serialized bytes, whose fields are read in the order of sensor_msgs/msg/Image and
sensor_msgs/msg/CompressedImage. Neither rclpy nor a message class is needed, so bags are read
without ROS as well. Where a middleware does not hand over bytes, from the message itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perception_node.decode import Decoder
from perception_node.errors import InvalidStamp
from perception_node.frame import Frame, view_pixels
from perception_node.ros.cdr import CdrReader

if TYPE_CHECKING:
    from collections.abc import Callable

RAW_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
NANOSECONDS = 1_000_000_000


class Header(NamedTuple):
    """std_msgs/Header."""

    stamp_ns: int
    frame_id: str


class OpenImage(NamedTuple):
    """x."""

    stamp_ns: int
    frame_id: str
    read: Callable[[], Frame]


class ImageReader:
    """Reads images of one type into Frames: bytes, or messages as rclpy makes them.

    The pixels of a raw image are a view of the message, which must stay unchanged.
    """

    def __init__(self, transport: str, max_pixels: int, smallest_side: int) -> None:
        """Prepare to read ``raw`` or ``compressed`` images; see ``Decoder`` for the limits."""
        self._max_pixels = max_pixels
        self._decoder = Decoder(max_pixels, smallest_side)
        readers: dict[str, Callable[[Any], Frame]] = {
            "raw": self._read_raw,
            "compressed": self._read_compressed,
        }
        self.read = readers[transport]

    def open(self, message: Any) -> OpenImage:  # noqa: ANN401
        header = peek_header(message)
        return OpenImage(header.stamp_ns, header.frame_id, lambda: self.read(message))

    def _read_raw(self, message: Any) -> Frame:  # noqa: ANN401 - bytes or an Image
        """Read a sensor_msgs/Image.

        Raises:
            FrameError: the message, its stamp, layout, encoding or size cannot be used.

        """
        if is_serialized(message):
            cdr = CdrReader(message)
            header = read_header(cdr)
            height, width, encoding = cdr.uint32(), cdr.uint32(), cdr.string()
            is_bigendian, step, octets = bool(cdr.uint8()), cdr.uint32(), cdr.octets()
        else:
            header = peek_header(message)
            height, width, encoding = message.height, message.width, message.encoding
            is_bigendian, step = bool(message.is_bigendian), message.step
            octets = memoryview(message.data).toreadonly()
        pixels = view_pixels(
            octets,
            height=height,
            width=width,
            encoding=encoding,
            step=step,
            max_pixels=self._max_pixels,
        )
        return Frame(pixels, encoding, height, width, is_bigendian, *header)

    def _read_compressed(self, message: Any) -> Frame:  # noqa: ANN401 - bytes or a CompressedImage
        """Read a sensor_msgs/CompressedImage that holds a JPEG or a PNG.

        ``format`` is not consulted: drivers fill it in many ways, the data itself is clear.

        Raises:
            FrameError: the message, its stamp or its image cannot be used.

        """
        if is_serialized(message):
            cdr = CdrReader(message)
            header = read_header(cdr)
            cdr.string()
            octets = cdr.octets()
        else:
            header, octets = peek_header(message), memoryview(message.data)
        return Frame.from_bgr(self._decoder.decode(octets), *header)


def is_serialized(message: object) -> bool:
    """Tell the bytes of a message from a message that rclpy has made of them."""
    return isinstance(message, (bytes, bytearray, memoryview))


def peek_header(message: Any) -> Header:  # noqa: ANN401 - bytes or a message with a header
    """Read the std_msgs/Header that a message begins with; raises what ``read_header`` raises."""
    if is_serialized(message):
        return read_header(CdrReader(message))
    stamp = message.header.stamp
    return Header(_to_nanoseconds(stamp.sec, stamp.nanosec), message.header.frame_id)


def read_header(cdr: CdrReader) -> Header:
    """Read a std_msgs/Header.

    Raises:
        InvalidStamp: the stamp is negative or has 1e9 nanoseconds or more.
        MalformedMessage: the message ends too soon.

    """
    return Header(_to_nanoseconds(cdr.int32(), cdr.uint32()), cdr.string())


def _to_nanoseconds(sec: int, nanosec: int) -> int:
    if sec < 0 or nanosec >= NANOSECONDS:
        raise InvalidStamp(sec, nanosec)
    return sec * NANOSECONDS + nanosec
