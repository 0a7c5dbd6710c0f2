# SPDX-License-Identifier: Apache-2.0
"""A camera frame: pixels viewed in place, and packed ones made of every encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

from perception_node.vision.encodings import ENCODINGS, THREE_PLANES
from perception_node.vision.opencv import SINGLE, convert_color, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.vision.encodings import Encoding, PackedOrder


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


class Unpacker:
    """Turns the pixels of any encoding into packed uint8 pixels, reusing its buffers."""

    def __init__(self) -> None:
        self._packed: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._picked: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._planes: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def unpack(self, frame: Frame) -> tuple[NDArray[np.uint8], PackedOrder]:
        """Return the frame's pixels as (height, width, channels) or (height, width), uint8.

        RGB, BGR and grey frames of 8 bits are returned as they are, without a copy. Other results
        lie in a buffer that the next call overwrites.
        """
        form = ENCODINGS[frame.encoding]
        pixels = frame.pixels
        if form.sample_bytes > 1 or form.first:
            pixels = self._pick(frame, form)
        if form.conversion is None:
            return pixels, form.order
        if frame.encoding == "nv24":
            pixels = self._halve_chroma(frame)
        elif frame.encoding in THREE_PLANES:
            pixels = self._join_planes(frame)
        shape = (frame.height, frame.width, 3)
        if self._packed.shape != shape:
            self._packed = np.empty(shape, np.uint8)
        convert_color(pixels, form.conversion, self._packed)
        return self._packed, form.order

    def _pick(self, frame: Frame, form: Encoding) -> NDArray[np.uint8]:
        """Take the bytes that make up each pixel: of a 16-bit sample, the high one."""
        places = form.places(is_bigendian=frame.is_bigendian)
        shape: tuple[int, ...] = (frame.height, frame.width, len(places))
        if self._picked.shape != shape:
            self._picked = np.empty(shape, np.uint8)
        if shape[:2] == SINGLE:
            self._picked[...] = frame.pixels[..., places]
        else:
            pairs = [n for pair in enumerate(places) for n in reversed(pair)]  # from, to
            cv2.mixChannels([frame.pixels], [self._picked], pairs)
        return self._picked[..., 0] if len(places) == 1 else self._picked

    def _halve_chroma(self, frame: Frame) -> NDArray[np.uint8]:
        """Turn NV24 (colour for every pixel) into NV12 (colour for every 2x2 pixels)."""
        height, width = frame.height, frame.width
        planes = self._planes_of(frame)
        step = frame.pixels.strides[0]  # a row of the chroma plane is two steps long
        chroma = as_strided(frame.pixels[height:], (height, width, 2), (2 * step, 2, 1))
        halved = planes[height:].reshape(height // 2, width // 2, 2)
        resize(chroma, halved, cv2.INTER_AREA)
        return planes

    def _join_planes(self, frame: Frame) -> NDArray[np.uint8]:
        """Take the padding away: a row of colour has half of it, where OpenCV expects none."""
        step, height, width = frame.pixels.strides[0], frame.height, frame.width
        if step == width:
            return frame.pixels
        planes = self._planes_of(frame)
        chroma = as_strided(frame.pixels[height:], (height, width // 2), (step // 2, 1))
        planes[height:].reshape(height, width // 2)[...] = chroma
        return planes

    def _planes_of(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a buffer of 3/2 of the frame's height, which has its brightness already."""
        height, width = frame.height, frame.width
        if self._planes.shape != (height * 3 // 2, width):
            self._planes = np.empty((height * 3 // 2, width), np.uint8)
        self._planes[:height] = frame.pixels[:height]
        return self._planes
