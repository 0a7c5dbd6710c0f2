# SPDX-License-Identifier: Apache-2.0
"""A picture for viewers: pixels until somebody asks for it, a JPEG from then on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDEST, JPEG_QUALITY = 1280, 80  # pixels, percent


class Picture:
    """One overlay, made a JPEG when the first viewer asks for it."""

    def __init__(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Keep uint8 BGR pixels of shape (height, width, 3), which nobody changes any more."""
        self.number = number
        self._pixels: NDArray[np.uint8] | None = pixels
        self._jpeg = b""
        self._lock = threading.Lock()

    def to_jpeg(self) -> bytes:
        """Return it at most 1280 pixels wide; the work is done once."""
        with self._lock:
            if self._pixels is not None:
                self._jpeg, self._pixels = _encode(self._pixels), None
            return self._jpeg


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape[:2]
    if width > WIDEST:
        size = WIDEST, max(1, round(height * WIDEST / width))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    packed = np.ascontiguousarray(pixels)
    _, data = cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()
