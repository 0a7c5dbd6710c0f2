# SPDX-License-Identifier: Apache-2.0
"""A camera frame: pixels viewed in place, and packed ones made of every encoding."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

from perception_node.errors import FrameTooLarge, MalformedImage, UnsupportedEncoding
from perception_node.vision.encodings import ENCODINGS, FLOATS, NAMES, READ, THREE_PLANES
from perception_node.vision.opencv import SINGLE, convert_color, resize

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from perception_node.vision.encodings import Encoding, PackedOrder


# Pixels of the longer side: that of a square image with the highest max_image_pixels. The number
# of pixels alone does not bound the time: to shrink a strip of one column takes many seconds.
MAX_SIDE = 1 << 14


class Layout(NamedTuple):
    """Where the pixels of a raw image are in its data.

    Attributes:
        encoding: a key of ``ENCODINGS``, or ``FLOATS``.
        shape: of the pixels, as ``Frame.pixels`` states it.
        strides: of the pixels, in bytes.
        narrow: the encoding with the same samples in one byte each; empty where they have one.
        complaint: what the driver does wrong though its images can be read; empty if nothing.

    """

    encoding: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    narrow: str
    complaint: str

    def view(self, data: memoryview) -> NDArray[np.uint8]:
        """View the data as pixels: uint8 of ``shape``, read-only where the data is."""
        return np.ndarray(self.shape, np.uint8, data, 0, self.strides)

    def view_samples(self, data: memoryview, *, is_bigendian: bool) -> NDArray[Any]:
        """View uint16 or float32 samples, as they are: (height, width[, samples of a pixel])."""
        form = READ[self.encoding]
        kind = {2: "u2", 4: "f4"}[form.sample_bytes]
        samples: NDArray[Any] = np.ndarray(
            (*self.shape[:2], form.samples),
            f"{'>' if is_bigendian else '<'}{kind}",
            data,
            0,
            (*self.strides[:2], form.sample_bytes),
        )
        return samples[..., 0] if form.samples == 1 else samples


@lru_cache(maxsize=16)  # a camera's images have the same numbers; errors are not kept
def lay_out(
    encoding: str,
    *,
    height: int,
    width: int,
    step: int,
    size: int,
    max_pixels: int,
    takes_floats: bool = False,
) -> Layout:
    """Find the pixels of a raw image.

    Args:
        encoding: a key of ``ENCODINGS``, ``FLOATS`` or another name of one, in any case.
        height: pixels.
        width: pixels.
        step: bytes from one row to the next. Where it cannot be, the image is read all the same
            if its data is exactly as long as one without padding.
        size: bytes of the data. Padding after the last row may be missing.
        max_pixels: the largest ``height * width`` accepted.
        takes_floats: whether ``FLOATS`` are read.

    Raises:
        UnsupportedEncoding: the encoding is not known, or not read.
        FrameTooLarge: more than ``max_pixels``.
        MalformedImage: the numbers contradict each other, the data is too short or a side is
            longer than ``MAX_SIDE``.

    """
    name = NAMES.get(encoding.lower())
    if name is None:
        raise UnsupportedEncoding(encoding, f"use one of: {', '.join(ENCODINGS)}")
    if name == FLOATS and not takes_floats:
        advice = "let the driver send 16UC1, or set mono32_range, such as to 0.3,10"
        raise UnsupportedEncoding(encoding, advice)
    form = READ[name]
    require_size(width, height, max_pixels)
    _check_size(form, height, width)
    row, rows = width * form.pixel_bytes, int(height * form.rows_per_height)
    complaint = ""
    if _is_tight(form, row, rows, step, size):
        complaint = (
            f"the image's step is {step}, but its {size} bytes are {rows} rows of {row} without "
            f"padding, and are read so; the driver should send step {row}"
        )
        step = row
    _check_step(name, row, rows, step, size)
    shape, strides = (rows, width, form.pixel_bytes), (step, form.pixel_bytes, 1)
    places = 2 if form.pixel_bytes == 1 else 3
    return Layout(name, shape[:places], strides[:places], form.narrow, complaint)


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


def _check_size(form: Encoding, height: int, width: int) -> None:
    if height < 1 or width < 1:
        msg = f"{width}x{height} is no image"
        raise MalformedImage(msg)
    if form.even and (width % 2 or (form.rows_per_height > 1 and height % 2)):
        msg = f"{width}x{height} is odd, but this encoding shares colour between two pixels"
        raise MalformedImage(msg)


def _is_tight(form: Encoding, row: int, rows: int, step: int, size: int) -> bool:
    """Tell whether the step is wrong, and the data nevertheless exactly the rows.

    Drivers of planar formats also count the colour into the step. Any other step that is longer
    than a row stands for padding, and too little data for an image that was cut short.
    """
    is_planar = form.rows_per_height > 1
    of_all_planes = {row * 3 // 2, row * 2, row * 3} if is_planar else set()
    return size == row * rows and (step < row or step in of_all_planes)


def _check_step(name: str, row: int, rows: int, step: int, size: int) -> None:
    if step < row:
        msg = (
            f"step {step} is less than the {row} bytes of one row, and the data has {size} bytes "
            f"where {row * rows} would be rows without padding; the driver must set the step"
        )
        raise MalformedImage(msg)
    end = row if name not in THREE_PLANES else (step + row) // 2  # of the last row of memory
    needed = step * (rows - 1) + end
    if size < needed:
        msg = f"data has {size} bytes, step and height need {needed}; the frame was cut short"
        raise MalformedImage(msg)
    if name in THREE_PLANES and step % 2:
        msg = f"step {step} is odd, but a row of colour has half of it; the driver must set it"
        raise MalformedImage(msg)


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
