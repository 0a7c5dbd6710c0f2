# SPDX-License-Identifier: Apache-2.0
"""From an image message to a Frame, without copying raw pixels.

Mostly from its serialized bytes, whose fields are read in the order of sensor_msgs/msg/Image and
sensor_msgs/msg/CompressedImage. Neither rclpy nor a message class is needed, so bags are read
without ROS as well. Where a middleware does not hand over bytes, from the message itself.

ROS 2 messages travel in CDR. ``CdrReader`` checks all bounds and knows what image messages need:
little and big endian plain CDR (OMG DDSI-RTPS 10.5, XCDR 1).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from perception_node.errors import InvalidStamp, MalformedMessage, quote
from perception_node.vision.decode import IMAGE_SUFFIXES, Decoder
from perception_node.vision.encodings import FLOATS
from perception_node.vision.frame import Frame, lay_out
from perception_node.vision.samples import SampleScaler, warn_in_log

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.config.sections import DamagedImages, Transport
    from perception_node.untyped import Message
    from perception_node.vision.frame import Layout

RAW_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
TRANSPORTS: dict[str, Transport] = {RAW_TYPE: "raw", COMPRESSED_TYPE: "compressed"}
NANOSECONDS = 1_000_000_000
HEADER_BYTES = 4  # encapsulation: two bytes of representation, two of options
BIG_ENDIAN = b"\x00\x00"
LITTLE_ENDIAN = b"\x00\x01"
# What an image calls its encoding if its data is a file of one of these formats.
FILES = frozenset(("mjpeg", "mjpg", *(suffix[1:] for suffix in IMAGE_SUFFIXES)))
MAX_STRING_BYTES = 1 << 16  # names of frames and encodings; a text is copied, octets are not


class Numbers:
    """Numbers of 32 bits that follow each other, in both byte orders."""

    def __init__(self, letters: str) -> None:
        """Prepare for a number per letter: ``i`` is signed, ``I`` unsigned."""
        self.size = 4 * len(letters)
        self.unpack = [struct.Struct(order + letters).unpack_from for order in "<>"]


UINT32 = Numbers("I")
# Each with the length of what follows it: the frame, the encoding, the pixels.
STAMP_AND_LENGTH, SIZE_AND_LENGTH, STEP_AND_LENGTH = Numbers("iII"), Numbers("III"), Numbers("II")


class CdrReader:
    """Reads one serialized message from front to back.

    Every method raises ``MalformedMessage`` where the bytes end too soon. Each call costs where
    the caches are cold, so numbers are read together, the length of what follows them included.
    """

    def __init__(self, data: bytes) -> None:
        """Begin after the encapsulation header, which states the byte order."""
        representation = bytes(data[:2])
        self._is_big = representation == BIG_ENDIAN
        self._size = len(data)
        is_known = self._is_big or representation == LITTLE_ENDIAN
        if self._size < HEADER_BYTES or not is_known:
            msg = f"not a CDR message: it begins with {bytes(data[:HEADER_BYTES])!r}"
            raise MalformedMessage(msg)
        self._data = memoryview(data)
        self._position = HEADER_BYTES

    def numbers(self, kinds: Numbers) -> tuple[Any, ...]:
        """Read integers of these kinds, from the next multiple of four on."""
        start = (self._position + 3) & -4  # the encapsulation has four bytes itself
        end = start + kinds.size
        if end > self._size:
            self._refuse(end)
        self._position = end
        return kinds.unpack[self._is_big](self._data, start)

    def uint32(self) -> int:
        """Read an unsigned 32-bit integer."""
        value: int = self.numbers(UINT32)[0]
        return value

    def uint8(self) -> int:
        """Read one byte."""
        return self.view(1)[0]

    def view(self, size: int) -> memoryview:
        """Read ``size`` bytes, as a view of the message."""
        start = self._position
        end = start + size
        if end > self._size:
            self._refuse(end)
        self._position = end
        return self._data[start:end]

    def text(self, size: int) -> str:
        """Read the ``size`` bytes of a string, at most ``MAX_STRING_BYTES``, with its NUL.

        Bytes that are not UTF-8 are replaced.
        """
        octets = self.view(size)
        if size > MAX_STRING_BYTES:
            msg = f"a string has {size} bytes, at most {MAX_STRING_BYTES} are read"
            raise MalformedMessage(msg)
        if size == 0 or octets[-1] != 0:
            msg = f"a string does not end with NUL: {quote(str(octets, 'latin-1'))}"
            raise MalformedMessage(msg)
        return str(octets[:-1], "utf-8", "replace")

    def octets(self) -> memoryview:
        """Read a sequence of bytes, its length first, as a view of the message."""
        return self.view(self.uint32())

    def string(self) -> str:
        """Read a string, its length first; see ``text``."""
        return self.text(self.uint32())

    def _refuse(self, end: int) -> NoReturn:
        msg = f"the message ends after {self._size} bytes, {end} are needed"
        raise MalformedMessage(msg)


class Header(NamedTuple):
    """std_msgs/Header."""

    stamp_ns: int
    frame_id: str


class ImageReader:
    """Reads images of one type into Frames: bytes, or messages as rclpy makes them.

    The pixels of a raw image are a view of the message, which must stay unchanged.
    """

    def __init__(
        self,
        transport: Transport,
        max_pixels: int,
        smallest_side: int,
        damaged_images: DamagedImages = "drop",
        scaler: SampleScaler | None = None,
        warn: Callable[[str], object] = warn_in_log,
    ) -> None:
        """Prepare to read ``raw`` or ``compressed`` images; see ``Decoder`` for the limits.

        ``scaler`` makes bytes of deeper samples; ``warn`` is called for the first image with a
        wrong step that can be read all the same.
        """
        self._max_pixels = max_pixels
        self._scaler = SampleScaler() if scaler is None else scaler
        self._decoder = Decoder(max_pixels, smallest_side, damaged_images, self._scaler)
        self._warn: Callable[[str], object] | None = warn
        readers = {"raw": self._read_raw, "compressed": self._read_compressed}
        self._read_body = readers[transport]

    def open(self, message: Message) -> OpenImage:
        """Read the header of a message, whose pixels may never be needed.

        Raises:
            InvalidStamp: the stamp is negative or has 1e9 nanoseconds or more.
            MalformedMessage: these bytes are no message, or end too soon.

        """
        if is_serialized(message):
            body = CdrReader(message)
            return OpenImage(read_header(body), body, self._read_body)
        return OpenImage(peek_header(message), message, self._read_body)

    def read(self, message: Message) -> Frame:
        """Read a whole message.

        Raises:
            FrameError: the message, its stamp, layout, encoding or size cannot be used.

        """
        return self.open(message).read()

    def _read_raw(self, body: Message, stamp_ns: int, frame_id: str) -> Frame:
        """Read what follows the header of a sensor_msgs/Image."""
        if isinstance(body, CdrReader):
            height, width, length = body.numbers(SIZE_AND_LENGTH)
            encoding, is_bigendian = body.text(length), bool(body.uint8())
            step, length = body.numbers(STEP_AND_LENGTH)
            octets = body.view(length)
        else:
            height, width, encoding = body.height, body.width, body.encoding
            is_bigendian, step = bool(body.is_bigendian), body.step
            octets = memoryview(body.data).toreadonly()
        if encoding.lower() in FILES:
            return self._decode(octets, stamp_ns, frame_id)
        layout = lay_out(
            encoding,
            height=height,
            width=width,
            step=step,
            size=len(octets),
            max_pixels=self._max_pixels,
            takes_floats=self._scaler.takes_floats,
        )
        if layout.complaint:
            self._warn_once(layout.complaint)
        pixels, name = layout.view(octets), layout.encoding
        if layout.narrow:
            pixels, name = self._read_deep(layout, octets, is_bigendian=is_bigendian)
        return Frame(pixels, name, height, width, is_bigendian, stamp_ns, frame_id)

    def _warn_once(self, complaint: str) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(complaint)

    def _read_deep(
        self, layout: Layout, octets: memoryview, *, is_bigendian: bool
    ) -> tuple[NDArray[np.uint8], str]:
        """Return pixels and their encoding: bytes in the range that is set, or all as it came."""
        samples = layout.view_samples(octets, is_bigendian=is_bigendian)
        if layout.encoding == FLOATS or not self._scaler.is_full:
            return self._scaler.scale(samples), layout.narrow
        self._scaler.judge(samples)
        return layout.view(octets), layout.encoding

    def _read_compressed(self, body: Message, stamp_ns: int, frame_id: str) -> Frame:
        """Read what follows the header of a sensor_msgs/CompressedImage: a file of ``FORMATS``.

        ``format`` is not consulted: drivers fill it in many ways, the data itself is clear.
        """
        if isinstance(body, CdrReader):
            body.string()
            octets = body.octets()
        else:
            octets = memoryview(body.data)
        return self._decode(octets, stamp_ns, frame_id)

    def _decode(self, octets: memoryview, stamp_ns: int, frame_id: str) -> Frame:
        return Frame.from_bgr(self._decoder.decode(octets), stamp_ns, frame_id)


class OpenImage:
    """An image message of which only the header is read.

    Attributes:
        stamp_ns: acquisition time from the header, nanoseconds since the epoch.
        frame_id: coordinate frame from the header.

    """

    __slots__ = ("_body", "_read_body", "frame_id", "stamp_ns")

    def __init__(self, header: Header, body: Message, read_body: Callable[..., Frame]) -> None:
        """Hold a ``CdrReader`` that stands behind the header, or the message itself."""
        self.stamp_ns, self.frame_id = header
        self._body = body
        self._read_body = read_body

    def read(self) -> Frame:
        """Read the rest of the message, once.

        Raises:
            FrameError: its layout, encoding or size cannot be used, or it ends too soon.

        """
        return self._read_body(self._body, self.stamp_ns, self.frame_id)


def is_serialized(message: object) -> bool:
    """Tell the bytes of a message from a message that rclpy has made of them."""
    return isinstance(message, (bytes, bytearray, memoryview))


def peek_header(message: Message) -> Header:
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
    sec, nanosec, length = cdr.numbers(STAMP_AND_LENGTH)
    return Header(_to_nanoseconds(sec, nanosec), cdr.text(length))


def _to_nanoseconds(sec: int, nanosec: int) -> int:
    if sec < 0 or nanosec >= NANOSECONDS:
        raise InvalidStamp(sec, nanosec)
    return sec * NANOSECONDS + nanosec
