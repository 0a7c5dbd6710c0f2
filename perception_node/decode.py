# SPDX-License-Identifier: Apache-2.0
"""Decode JPEG and PNG, after a look of our own has shown what that will cost.

A PNG of 100 kB can ask for gigabytes, by the size of its image or of a chunk, and a JPEG can ask
for its pixels thousands of times. Neither reaches OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.errors import UndecodableImage
from perception_node.frame import require_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
# Markers that start a frame header (SOF0 to SOF15) less DHT, JPG and DAC (ITU-T T.81, B.1.1.3).
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # no length follows these
_JPEG_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_SCAN_MARKER = 0xDA
_JPEG_END_MARKERS = frozenset({0xD9, _JPEG_SCAN_MARKER})
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_MAX_HEADER_STEPS = 4096  # segments and fill bytes before the pixels; real files: under 100
_MAX_SCANS = 64  # each goes over the whole image; encoders make 10
_MAX_CHUNKS = 1 << 14  # of a PNG; encoders put 8 KiB and more into one
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})  # 150 bytes of these crash OpenCV 4.11
_CHUNK_FRAME = 12  # bytes of a chunk beside its content: length, name and checksum
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class Decoder:
    """Decodes JPEG and PNG into BGR, within limits."""

    def __init__(self, max_pixels: int, smallest_side: int) -> None:
        """Accept up to ``max_pixels``.

        An image is decoded at 1/2, 1/4 or 1/8 of its size, which is faster for a JPEG, as long
        as its shorter side keeps ``smallest_side`` pixels.
        """
        self._max_pixels = max_pixels
        self._smallest_side = smallest_side

    def decode(self, data: memoryview | bytes) -> NDArray[np.uint8]:
        """Return the image as uint8 BGR of shape (height, width, 3), upright as EXIF says.

        Raises:
            UndecodableImage: neither a JPEG nor a PNG, animated, damaged or cut short.
            FrameTooLarge: the header states more than ``max_pixels``.
            MalformedImage: the header states a side that is longer than ``MAX_SIDE``.

        """
        width, height = read_size(data)
        require_size(width, height, self._max_pixels)
        _require_whole(data)
        flags = _REDUCED[self._reduction(width, height)]
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:  # larger than OpenCV's own limits, which builds may lower
            msg = f"OpenCV refuses the image: {error.err}"
            raise UndecodableImage(msg) from error
        if pixels is None:
            msg = "the data is damaged: OpenCV cannot decode it"
            raise UndecodableImage(msg)
        return pixels  # type: ignore[return-value]

    def _reduction(self, width: int, height: int) -> int:
        shorter_side = min(width, height)
        fitting = (r for r in (8, 4, 2) if shorter_side // r >= self._smallest_side)
        return next(fitting, 1)


def _require_whole(data: memoryview | bytes) -> None:
    """Refuse an image that was cut short; bytes that cameras append after its end are fine.

    OpenCV 4 fills what a JPEG lacks with grey and reports nothing. A thumbnail in the header has
    an end marker too, therefore no scan may begin after the last one.
    """
    content = bytes(data)
    if content.startswith(_PNG_SIGNATURE):
        is_whole = _ends_in_chunk(content)
    else:
        _require_few_scans(content)
        end = content.rfind(_JPEG_END)
        is_whole = end >= 0 and content.find(_JPEG_SCAN, end) < 0
    if not is_whole:
        msg = f"the image was cut short: its end is missing ({len(content)} bytes)"
        raise UndecodableImage(msg)


def _ends_in_chunk(png: bytes) -> bool:
    """Return whether the chunks of a PNG lie within it, up to its last; refuse an animation.

    OpenCV 5 allocates, and clears, whatever length a chunk states: up to 4 GB.
    """
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        size = int.from_bytes(png[position : position + 4], "big")
        kind = png[position + 4 : position + 8]
        if kind in _PNG_ANIMATION:
            msg = "an animated PNG is not decoded; send each picture by itself"
            raise UndecodableImage(msg)
        position += _CHUNK_FRAME + size
        if kind == b"IEND" or position > len(png):
            return position <= len(png)
    return False


def _require_few_scans(jpeg: bytes) -> None:
    """Refuse a JPEG that goes over its pixels again and again."""
    if _has_one_scan(jpeg):  # libjpeg refuses a second one; a camera's image is not searched
        return
    scans = jpeg.count(_JPEG_SCAN)
    if scans > _MAX_SCANS:
        msg = f"the JPEG has {scans} scans, at most {_MAX_SCANS} are decoded"
        raise UndecodableImage(msg)


def _has_one_scan(jpeg: bytes) -> bool:
    """Return whether the first scan is sequential and has all components, as cameras do it."""
    components = b""
    for marker, position in _jpeg_segments(jpeg):
        if marker in _JPEG_PROGRESSIVE_MARKERS:
            return False
        if marker in _JPEG_FRAME_MARKERS:
            components = jpeg[position + 9 : position + 10]
        elif marker == _JPEG_SCAN_MARKER:
            return jpeg[position + 4 : position + 5] == components
    return False


def read_size(data: memoryview | bytes) -> tuple[int, int]:
    """Return (width, height) in pixels from the header of a JPEG or PNG.

    Raises:
        UndecodableImage: the data is neither, or ends before its size.

    """
    if bytes(data[:8]) == _PNG_SIGNATURE:
        size = _png_size(data)
    elif bytes(data[:3]) == _JPEG_SIGNATURE:
        size = _jpeg_size(data)
    else:
        msg = f"neither JPEG nor PNG: it begins with {bytes(data[:8])!r}"
        raise UndecodableImage(msg)
    if size is None or 0 in size:
        msg = f"the header of the image is damaged ({len(data)} bytes)"
        raise UndecodableImage(msg)
    return size


def _png_size(data: memoryview | bytes) -> tuple[int, int] | None:
    """Read IHDR, which is the first chunk of every PNG."""
    if bytes(data[12:16]) != b"IHDR" or len(data) < 24:  # noqa: PLR2004
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: memoryview | bytes) -> tuple[int, int] | None:
    """Read the frame header."""
    for marker, position in _jpeg_segments(data):
        if marker in _JPEG_FRAME_MARKERS:
            frame = data[position + 5 : position + 9]
            height, width = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:], "big")
            return (width, height) if len(frame) == 4 else None  # noqa: PLR2004
    return None


def _jpeg_segments(data: memoryview | bytes) -> Iterator[tuple[int, int]]:
    """Walk the marker segments up to the first scan: the marker, and where it is."""
    position = 2
    for _ in range(_MAX_HEADER_STEPS):
        if position + 4 > len(data) or data[position] != 0xFF:  # noqa: PLR2004
            return
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte before the marker  # noqa: PLR2004
            position += 1
        elif marker in _JPEG_ALONE_MARKERS:
            position += 2
        else:
            yield marker, position
            if marker in _JPEG_END_MARKERS:
                return
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
