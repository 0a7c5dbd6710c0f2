# SPDX-License-Identifier: Apache-2.0
"""OpenCV's functions for images that may be a single pixel; small pictures for people.

OpenCV 4.5.4, Ubuntu 22.04's, misreads an array of shape (1, 1, channels) that it is given, as a
source and as a target ("_step >= minstep"). What it makes itself is right. Nothing else is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SINGLE = (1, 1)
JPEG_QUALITY = 80  # percent: for people


def resize(image: NDArray[np.uint8], target: NDArray[np.uint8], interpolation: int) -> None:
    """Resize uint8 pixels of shape (height, width[, channels]) into ``target``."""
    size = target.shape[1::-1]  # width, height
    if size == SINGLE or image.shape[:2] == SINGLE:
        image = _widen(image)
        if size == SINGLE:
            target[...] = cv2.resize(image, size, interpolation=interpolation)
            return
    cv2.resize(image, size, target, 0, 0, interpolation)


def convert_color(image: NDArray[np.uint8], code: int, target: NDArray[np.uint8]) -> None:
    """Convert uint8 pixels by OpenCV's ``code`` into ``target``, which has the result's shape."""
    if target.shape[:2] == SINGLE:
        target[...] = cv2.cvtColor(_widen(image), code)[:, :1]
    else:
        cv2.cvtColor(image, code, target)


def to_jpeg(pixels: NDArray[np.uint8], longest_side: int) -> bytes:
    """Return uint8 BGR (height, width, 3) as a JPEG with at most so many pixels a side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    small = np.empty((max(1, round(height * scale)), max(1, round(width * scale)), 3), np.uint8)
    resize(pixels, small, cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _widen(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put a single pixel with channels there twice, side by side."""
    return image.repeat(2, axis=1) if image.shape[:2] == SINGLE and image.shape[2:] else image
