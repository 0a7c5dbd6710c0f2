# SPDX-License-Identifier: Apache-2.0
"""Small pictures of some frames of a bag."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from perception_node.config.sections import CameraConfig
from perception_node.errors import FrameError
from perception_node.vision.frame import Unpacker
from perception_node.vision.opencv import to_jpeg
from perception_node.vision.overlay import draw_overlay
from perception_node.vision.samples import SampleScaler
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, ImageReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.wire.bags import BagMessage

IMAGE_TYPES = (RAW_TYPE, COMPRESSED_TYPE)
MAX_IMAGE_PIXELS = CameraConfig().max_image_pixels
SIDE = 320  # pixels, of the longer one


def read_pictures(
    messages: Iterable[BagMessage], numbers: set[int], max_pixels: int = MAX_IMAGE_PIXELS
) -> dict[int, str]:
    """Return pictures as JPEG data URIs, by frame number from 1; none where it is damaged."""
    unpacker, pictures = Unpacker(), {}
    scaler = SampleScaler("auto", "auto")  # people shall see something, whatever the model saw
    readers = {
        RAW_TYPE: ImageReader("raw", max_pixels, SIDE, scaler=scaler),
        COMPRESSED_TYPE: ImageReader("compressed", max_pixels, SIDE, scaler=scaler),
    }
    for number, message in enumerate(islice(messages, max(numbers, default=0)), start=1):
        if number in numbers:
            scaler.forget()
            with suppress(FrameError):
                frame = readers[message.type_name].read(message.data)
                jpeg = to_jpeg(draw_overlay(*unpacker.unpack(frame), ()), SIDE)
                pictures[number] = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return pictures
