# SPDX-License-Identifier: Apache-2.0
"""Pictures as a camera sends them: in every encoding the node reads, serialized, stamped in place.

Neither rclpy nor a message class is needed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from perception_node.vision.encodings import ENCODINGS
from perception_node.wire.images import LITTLE_ENDIAN, NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STAMP = struct.Struct("<iI")
STAMP_BEGIN = 4  # after the encapsulation header
FRAME_ID = "camera"
JPEG_QUALITY = 90
BAYER_CHANNELS = {"r": 2, "g": 1, "b": 0}  # in BGR
BAYER_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))  # in the order of the letters of the encoding


def write_stamp(message: bytearray, stamp_ns: int) -> None:
    """Change the stamp of a serialized little-endian message, in place."""
    STAMP.pack_into(message, STAMP_BEGIN, *divmod(stamp_ns, NANOSECONDS))


def encode(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Return a picture as the bytes of an encoding.

    Args:
        picture: uint8 BGR (height, width, 3); even sides where the encoding shares colour.
        encoding: a key of ``encodings.ENCODINGS``.

    Returns:
        uint8 (rows in memory, bytes per row).

    """
    made = np.ascontiguousarray(MAKERS[encoding](picture, encoding))
    return cast("NDArray[np.uint8]", made.reshape(made.shape[0], -1))


def serialize(rows: NDArray[np.uint8], encoding: str, width: int, height: int) -> bytearray:
    """Return a serialized sensor_msgs/Image with stamp 0; ``rows`` as ``encode`` makes them."""
    return write_image(height, width, encoding, rows.shape[1], rows.tobytes())


def write_image(height: int, width: int, encoding: str, step: int, data: bytes) -> bytearray:
    """Return a serialized sensor_msgs/Image with stamp 0, whether its fields fit or not."""
    message = _begin()
    message += struct.pack("<II", height, width)
    _add_string(message, encoding)
    message.append(0)  # is_bigendian
    _align(message)
    message += struct.pack("<II", step, len(data))
    message += data
    return message


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return uint8 BGR (height, width, 3) as a JPEG, as a camera makes it."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def write_compressed(data: bytes) -> bytearray:
    """Return a serialized sensor_msgs/CompressedImage with stamp 0 that holds ``data``."""
    message = _begin()
    _add_string(message, "bgr8; jpeg compressed bgr8")
    _align(message)
    message += struct.pack("<I", len(data))
    message += data
    return message


def _begin() -> bytearray:
    message = bytearray(LITTLE_ENDIAN + bytes(2) + STAMP.pack(0, 0))
    _add_string(message, FRAME_ID)
    _align(message)
    return message


def _add_string(message: bytearray, text: str) -> None:
    _align(message)
    octets = text.encode() + b"\x00"
    message += struct.pack("<I", len(octets)) + octets


def _align(message: bytearray) -> None:
    message += bytes(-len(message) % 4)  # the encapsulation header has four bytes itself


def _convert(code: int) -> Callable[[NDArray[np.uint8], str], NDArray[np.uint8]]:
    def make(picture: NDArray[np.uint8], _encoding: str) -> NDArray[np.uint8]:
        return cast("NDArray[np.uint8]", cv2.cvtColor(picture, code))

    return make


def _keep(picture: NDArray[np.uint8], _encoding: str) -> NDArray[np.uint8]:
    return picture


def _make_words(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Make 16-bit samples, little endian."""
    narrow = ENCODINGS[encoding].narrow
    return (MAKERS[narrow](picture, narrow).astype("<u2") * 257).view(np.uint8)


def _make_filled(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Put a byte without meaning before each pixel."""
    colors = picture[..., ::-1] if encoding == "xrgb8" else picture
    return np.concatenate([np.zeros_like(colors[..., :1]), colors], axis=2)


def _make_bayer(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Keep of each pixel the one colour that its filter lets through."""
    mosaic = np.empty(picture.shape[:2], np.uint8)
    pattern = encoding.removeprefix("bayer_").removesuffix("8")
    for letter, (row, column) in zip(pattern, BAYER_PLACES, strict=True):
        mosaic[row::2, column::2] = picture[row::2, column::2, BAYER_CHANNELS[letter]]
    return mosaic


def _make_packed_yuv(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Make YUYV or UYVY; OpenCV itself can from 4.9 on."""
    height, width = picture.shape[:2]
    pairs = np.asarray(cv2.resize(picture, (width // 2, height), interpolation=cv2.INTER_AREA))
    luma = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)[:height]
    # Doubled, as I420 has one colour for 2x2 pixels.
    planar = cv2.cvtColor(pairs.repeat(2, 0).repeat(2, 1), cv2.COLOR_BGR2YUV_I420)
    chroma = planar[2 * height :].reshape(2, height, width // 2)
    packed = np.empty((height, width, 2), np.uint8)
    first = int(encoding in ("uyvy", "yuv422"))  # the byte that holds the luma
    packed[:, :, first] = luma
    packed[:, :, 1 - first] = np.moveaxis(chroma, 0, -1).reshape(height, width)
    return packed


def _make_semi_planar(picture: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Make NV12, NV21 (U and V swapped) or NV24 (U and V for every pixel)."""
    height, width = picture.shape[:2]
    planar = cast("NDArray[np.uint8]", cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420))
    luma, chroma = planar[:height], planar[height:].reshape(2, height // 2, width // 2)
    pairs = np.moveaxis(chroma[::-1] if encoding == "nv21" else chroma, 0, -1)
    if encoding == "nv24":
        pairs = pairs.repeat(2, axis=0).repeat(2, axis=1)
    # A row of NV24's colours is two rows of memory.
    return np.concatenate([luma, pairs.reshape(-1, width)])


MAKERS: dict[str, Callable[[NDArray[np.uint8], str], NDArray[np.uint8]]] = {
    "rgb8": _convert(cv2.COLOR_BGR2RGB),
    "bgr8": _keep,
    "8UC3": _keep,
    **dict.fromkeys(("rgba8", "rgbx8"), _convert(cv2.COLOR_BGR2RGBA)),
    **dict.fromkeys(("bgra8", "8UC4", "bgrx8"), _convert(cv2.COLOR_BGR2BGRA)),
    **dict.fromkeys(("xrgb8", "xbgr8"), _make_filled),
    **dict.fromkeys(("mono8", "8UC1"), _convert(cv2.COLOR_BGR2GRAY)),
    **{name: _make_words for name, form in ENCODINGS.items() if form.sample_bytes > 1},
    **dict.fromkeys(("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), _make_bayer),
    **dict.fromkeys(("yuyv", "yuv422_yuy2", "uyvy", "yuv422"), _make_packed_yuv),
    **dict.fromkeys(("nv12", "nv21", "nv24"), _make_semi_planar),
    "i420": _convert(cv2.COLOR_BGR2YUV_I420),
    "yv12": _convert(cv2.COLOR_BGR2YUV_YV12),
}
