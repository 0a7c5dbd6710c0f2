# SPDX-License-Identifier: Apache-2.0
"""A picture for viewers: pixels until somebody asks for it, a JPEG from then on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_SIDE, JPEG_QUALITY = 1280, 80  # pixels, percent


class Picture:
    """One overlay, made a JPEG when the first viewer asks for it."""

    def __init__(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Keep uint8 BGR pixels of shape (height, width, 3), which nobody changes any more."""
        self.number = number
        self._pixels: NDArray[np.uint8] | None = pixels
        self._jpeg = b""
        self._lock = threading.Lock()

    def to_jpeg(self) -> bytes:
        """Return it with sides of at most 1280 pixels; the work is done once."""
        with self._lock:
            if self._pixels is not None:
                self._jpeg, self._pixels = _encode(self._pixels), None
            return self._jpeg


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > LONGEST_SIDE:  # a JPEG has no more than 65 535 anyway
        size = _shrink(width, longest), _shrink(height, longest)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    packed = np.ascontiguousarray(pixels)
    _, data = cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _shrink(side: int, longest: int) -> int:
    return max(1, round(side * LONGEST_SIDE / longest))
