# SPDX-License-Identifier: Apache-2.0
"""OpenCV's decoder, for what was looked at before."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from perception_node.errors import UndecodableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_with_opencv(data: bytes, reduction: int, *, deep: bool = False) -> NDArray[np.uint8]:
    """Return what OpenCV makes of a file: uint8 BGR of 1/``reduction`` of its size, not turned.

    With ``deep``, what has 16 bits a sample is uint16.

    Raises:
        UndecodableImage: OpenCV refuses it.

    """
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    if deep:
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # larger than OpenCV's own limits, which builds may lower
        raise UndecodableImage(f"OpenCV refuses the image: {error.err}") from error
    if pixels is None:
        raise UndecodableImage("the data is damaged: OpenCV cannot decode it")
    return cast("NDArray[np.uint8]", pixels)


def cut_short(data: bytes) -> UndecodableImage:
    """Return the error for an image that ends too soon."""
    return UndecodableImage(f"the image was cut short: its end is missing ({len(data)} bytes)")
