# SPDX-License-Identifier: Apache-2.0
"""A camera frame: pixels viewed in place, with the encodings that ROS cameras use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

from perception_node.errors import FrameTooLarge, MalformedImage, UnsupportedEncoding
from perception_node.vision.opencv import convert_color, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

PackedOrder = Literal["RGB", "BGR", "RGBA", "BGRA", "GRAY"]
# Pixels of the longer side: that of a square image with the highest max_image_pixels. The number
# of pixels alone does not bound the time: to shrink a strip of one column takes many seconds.
MAX_SIDE = 1 << 14


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of one encoding lie in memory and how they become packed pixels.

    Attributes:
        order: channel order of the packed uint8 pixels, as they are or after ``conversion``.
        pixel_bytes: bytes per pixel in one row of memory.
        rows_per_height: rows of memory per row of the image, colour planes included.
        conversion: OpenCV colour conversion code, or None where the bytes are pixels already.
        even: the width (and, for planar formats, the height) must be even.

    """

    order: PackedOrder
    pixel_bytes: int = 1
    rows_per_height: float = 1.0
    conversion: int | None = None
    even: bool = False


_YUYV = Encoding("BGR", pixel_bytes=2, conversion=cv2.COLOR_YUV2BGR_YUYV, even=True)
_UYVY = Encoding("BGR", pixel_bytes=2, conversion=cv2.COLOR_YUV2BGR_UYVY, even=True)
_MONO8 = Encoding("GRAY")
_BGR8 = Encoding("BGR", pixel_bytes=3)
_BGRA8 = Encoding("BGRA", pixel_bytes=4)


def _planar(rows_per_height: float, conversion: int) -> Encoding:
    return Encoding("BGR", rows_per_height=rows_per_height, conversion=conversion, even=True)


# Names of sensor_msgs/image_encodings.hpp; YUV 4:2:2 has other names on Humble than later.
# OpenCV names a Bayer pattern by its second row, ROS by its first: hence the mirrored pairs.
ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding("RGB", pixel_bytes=3),
    "bgr8": _BGR8,
    "8UC3": _BGR8,
    "rgba8": Encoding("RGBA", pixel_bytes=4),
    "bgra8": _BGRA8,
    "8UC4": _BGRA8,
    "mono8": _MONO8,
    "8UC1": _MONO8,
    "mono16": Encoding("GRAY", pixel_bytes=2),
    "bayer_rggb8": Encoding("BGR", conversion=cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": Encoding("BGR", conversion=cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": Encoding("BGR", conversion=cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": Encoding("BGR", conversion=cv2.COLOR_BayerGB2BGR),
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "nv12": _planar(1.5, cv2.COLOR_YUV2BGR_NV12),
    "nv21": _planar(1.5, cv2.COLOR_YUV2BGR_NV21),
    "nv24": _planar(3.0, cv2.COLOR_YUV2BGR_NV12),  # after its chroma is halved
}


class Frame(NamedTuple):
    """One image of a camera.

    Attributes:
        pixels: uint8 of shape (rows in memory, width) where a pixel has one byte in a row
            (grey, Bayer, planar YUV), otherwise (height, width, bytes per pixel); a view of
            the message, rows may be padded (strides).
        encoding: a key of ``ENCODINGS``.
        height: pixels.
        width: pixels.
        is_bigendian: byte order of 16-bit samples.
        stamp_ns: acquisition time from the header, nanoseconds since the epoch.
        frame_id: coordinate frame from the header.

    """

    pixels: NDArray[np.uint8]
    encoding: str
    height: int
    width: int
    is_bigendian: bool
    stamp_ns: int
    frame_id: str

    @classmethod
    def from_bgr(cls, pixels: NDArray[np.uint8], stamp_ns: int = 0, frame_id: str = "") -> Frame:
        """Make a frame of uint8 BGR pixels of shape (height, width, 3)."""
        height, width = pixels.shape[:2]
        return cls(pixels, "bgr8", height, width, False, stamp_ns, frame_id)  # noqa: FBT003


def view_pixels(
    data: memoryview,
    *,
    height: int,
    width: int,
    encoding: str,
    step: int,
    max_pixels: int,
) -> NDArray[np.uint8]:
    """View the bytes of a raw image as pixels, without a copy.

    Args:
        data: at least ``step`` times the number of rows in memory.
        height: pixels.
        width: pixels.
        encoding: a key of ``ENCODINGS``.
        step: bytes from one row to the next.
        max_pixels: the largest ``height * width`` accepted.

    Returns:
        uint8, read-only, of the shape that ``Frame.pixels`` states.

    Raises:
        UnsupportedEncoding: the encoding is not known.
        FrameTooLarge: more than ``max_pixels``.
        MalformedImage: the numbers contradict each other, the data is too short or a side is
            longer than ``MAX_SIDE``.

    """
    shape, strides = _lay_out(encoding, height, width, step, len(data), max_pixels)
    return _uint8(np.ndarray(shape, np.uint8, data, 0, strides))


@lru_cache(maxsize=16)  # a camera's images have the same numbers; errors are not kept
def _lay_out(
    encoding: str, height: int, width: int, step: int, size: int, max_pixels: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and the strides of an image's pixels; ``size`` is that of its data."""
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise UnsupportedEncoding(encoding, ", ".join(ENCODINGS))
    require_size(width, height, max_pixels)
    _check_layout(layout, height, width, step, size)
    rows = int(height * layout.rows_per_height)
    if layout.pixel_bytes == 1:
        return (rows, width), (step, 1)
    return (rows, width, layout.pixel_bytes), (step, layout.pixel_bytes, 1)


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that takes too much memory or time, by its numbers alone.

    Raises:
        FrameTooLarge: more than ``max_pixels``.
        MalformedImage: a side is longer than ``MAX_SIDE``.

    """
    if width * height > max_pixels:
        raise FrameTooLarge(width, height, max_pixels)
    if max(width, height) > MAX_SIDE:
        msg = f"{width}x{height} has a side of more than {MAX_SIDE} pixels; no camera has"
        raise MalformedImage(msg)


def _check_layout(layout: Encoding, height: int, width: int, step: int, size: int) -> None:
    if height < 1 or width < 1:
        msg = f"{width}x{height} is no image"
        raise MalformedImage(msg)
    if layout.even and (width % 2 or (layout.rows_per_height > 1 and height % 2)):
        msg = f"{width}x{height} is odd, but this encoding shares colour between two pixels"
        raise MalformedImage(msg)
    row = width * layout.pixel_bytes
    if step < row:
        msg = f"step {step} is less than the {row} bytes of one row; the driver must set it"
        raise MalformedImage(msg)
    needed = step * int(height * layout.rows_per_height)
    if size < needed:
        msg = f"data has {size} bytes, step and height need {needed}; the frame was cut short"
        raise MalformedImage(msg)


class Unpacker:
    """Turns the pixels of any encoding into packed uint8 pixels, reusing its buffers."""

    def __init__(self) -> None:
        self._packed: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._planes: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def unpack(self, frame: Frame) -> tuple[NDArray[np.uint8], PackedOrder]:
        """Return the frame's pixels as (height, width, channels) or (height, width), uint8.

        RGB, BGR and grey frames are returned as they are, without a copy. Other results lie
        in a buffer that the next call overwrites.
        """
        layout = ENCODINGS[frame.encoding]
        if frame.encoding == "mono16":
            return self._high_bytes(frame), layout.order
        if layout.conversion is None:
            return frame.pixels, layout.order
        pixels = self._halve_chroma(frame) if frame.encoding == "nv24" else frame.pixels
        packed = self._packed_buffer((frame.height, frame.width, 3))
        convert_color(pixels, layout.conversion, packed)
        return packed, layout.order

    def _high_bytes(self, frame: Frame) -> NDArray[np.uint8]:
        """Keep the high byte of each 16-bit sample: the picture in 256 grey levels."""
        packed = self._packed_buffer((frame.height, frame.width))
        return _uint8(cv2.extractChannel(frame.pixels, 0 if frame.is_bigendian else 1, packed))

    def _halve_chroma(self, frame: Frame) -> NDArray[np.uint8]:
        """Turn NV24 (colour for every pixel) into NV12 (colour for every 2x2 pixels)."""
        height, width = frame.height, frame.width
        if self._planes.shape != (height * 3 // 2, width):
            self._planes = np.empty((height * 3 // 2, width), np.uint8)
        self._planes[:height] = frame.pixels[:height]
        step = frame.pixels.strides[0]  # a row of the chroma plane is two steps long
        chroma = as_strided(frame.pixels[height:], (height, width, 2), (2 * step, 2, 1))
        halved = self._planes[height:].reshape(height // 2, width // 2, 2)
        resize(chroma, halved, cv2.INTER_AREA)
        return self._planes

    def _packed_buffer(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        if self._packed.shape != shape:
            self._packed = np.empty(shape, np.uint8)
        return self._packed


def _uint8(image: object) -> NDArray[np.uint8]:
    """Narrow the type that the stubs of OpenCV and NumPy give; nothing is converted."""
    return cast("NDArray[np.uint8]", image)
