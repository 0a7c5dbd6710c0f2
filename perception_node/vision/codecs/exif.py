# SPDX-License-Identifier: Apache-2.0
"""Which way up a picture is, as EXIF says it in a JPEG or a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import cv2

from perception_node.vision.opencv import SINGLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

UPRIGHT = 1
_ORIENTATION, _SHORT = 0x0112, 3  # of EXIF: the tag, and the type of its value
_ENTRY_BYTES = 12
_MAX_ENTRIES = 512  # cameras write a dozen
# By EXIF's number: how the rows and columns of the file become those of the picture.
_TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), 0),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def read_orientation(tiff: bytes) -> int:
    """Return the orientation that a TIFF directory states, 1 to 8; 1 where it states none."""
    order: Literal["little", "big"]
    if tiff[:4] == b"II*\0":
        order = "little"
    elif tiff[:4] == b"MM\0*":
        order = "big"
    else:
        return UPRIGHT
    directory = int.from_bytes(tiff[4:8], order)
    count = min(int.from_bytes(tiff[directory : directory + 2], order), _MAX_ENTRIES)
    end = min(directory + 2 + count * _ENTRY_BYTES, len(tiff) - _ENTRY_BYTES + 1)
    for place in range(directory + 2, end, _ENTRY_BYTES):
        tag = int.from_bytes(tiff[place : place + 2], order)
        kind = int.from_bytes(tiff[place + 2 : place + 4], order)
        if tag == _ORIENTATION and kind == _SHORT:
            value = int.from_bytes(tiff[place + 8 : place + 10], order)
            return value if value in _TURNS else UPRIGHT
    return UPRIGHT


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return uint8 pixels of shape (height, width, channels) the right way up.

    A picture that is upright already is returned as it is.
    """
    if orientation == UPRIGHT or pixels.shape[:2] == SINGLE:
        return pixels
    return cast("NDArray[np.uint8]", _TURNS[orientation](pixels))
