# SPDX-License-Identifier: Apache-2.0
"""Small pictures of some frames of a bag."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.config.sections import CameraConfig
from perception_node.errors import FrameError
from perception_node.vision.frame import Unpacker
from perception_node.vision.opencv import resize
from perception_node.vision.overlay import draw_overlay
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, ImageReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from perception_node.wire.bags import BagMessage

IMAGE_TYPES = (RAW_TYPE, COMPRESSED_TYPE)
SIDE, JPEG_QUALITY = 320, 80  # pixels of the longer side, percent


def read_pictures(messages: Iterable[BagMessage], numbers: set[int]) -> dict[int, str]:
    """Return pictures as JPEG data URIs, by frame number from 1; none where it is damaged."""
    max_pixels, unpacker, pictures = CameraConfig().max_image_pixels, Unpacker(), {}
    readers = {
        RAW_TYPE: ImageReader("raw", max_pixels, SIDE),
        COMPRESSED_TYPE: ImageReader("compressed", max_pixels, SIDE),
    }
    for number, message in enumerate(islice(messages, max(numbers, default=0)), start=1):
        if number in numbers:
            with suppress(FrameError):
                frame = readers[message.type_name].read(message.data)
                pictures[number] = _to_uri(draw_overlay(*unpacker.unpack(frame), ()))
    return pictures


def _to_uri(picture: NDArray[np.uint8]) -> str:
    """Return uint8 BGR (height, width, 3) as a small JPEG."""
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.empty((*size, 3), np.uint8)
    resize(picture, small, cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{b64encode(data.tobytes()).decode()}"
