# SPDX-License-Identifier: Apache-2.0
"""The good pictures of a siege, with the label that each must get."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from perception_node.bench.camera.camera_messages import (
    encode,
    encode_jpeg,
    serialize,
    write_compressed,
)
from perception_node.bench.camera.load_sources import read_pictures
from perception_node.config.sections import CameraConfig, ModelConfig
from perception_node.engines.selection import load_pipeline
from perception_node.errors import EnvironmentLacks
from perception_node.system.process import use_one_opencv_thread
from perception_node.vision.opencv import resize
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 640, 480
CLEAR = 0.1  # the best class must be so far ahead of the next, or noise could decide
MOST = 8


class Picture(NamedTuple):
    """One picture as a camera sends it, raw and compressed, and as a file.

    Attributes:
        class_id: its class, the same for each of the three.
        label: the name of the class.
        messages: serialized, stamp 0, by transport.
        jpeg: the bytes of the compressed message's file.
        png: the same picture as a PNG file.

    """

    class_id: int
    label: str
    messages: dict[str, bytearray]
    jpeg: bytes
    png: bytes


def make_pictures(bundle: Path) -> list[Picture]:
    """Return pictures whose class is clear, by the pipeline of the node in this process.

    Raises:
        EnvironmentLacks: there are none.

    """
    use_one_opencv_thread()
    config = ModelConfig(model=str(bundle), engine="onnxruntime", threads=1)
    found = []
    with load_pipeline(config) as pipeline:
        readers = {
            transport: ImageReader(
                transport, CameraConfig().max_image_pixels, pipeline.smallest_side
            )
            for transport in ("raw", "compressed")
        }
        for pixels in read_pictures():
            sized = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            resize(pixels, sized, cv2.INTER_LINEAR)
            jpeg = encode_jpeg(sized)
            messages = {
                "raw": serialize(encode(sized, "bgr8"), "bgr8", WIDTH, HEIGHT),
                "compressed": write_compressed(jpeg),
            }
            best = []
            for transport, message in messages.items():
                frame = readers[transport].read(bytes(message))
                first, second = pipeline.run(frame, top_k=2, threshold=0.0).hypotheses
                best.append(first if first.score - second.score > CLEAR else None)
            if best[0] is None or best[1] is None or best[0].class_id != best[1].class_id:
                continue
            png = cv2.imencode(".png", cv2.resize(sized, (WIDTH // 2, HEIGHT // 2)))[1].tobytes()
            found.append(Picture(int(best[0].class_id), best[0].label, messages, jpeg, png))
    if not found:
        raise EnvironmentLacks(f"{bundle}: no picture of the sample bag has a clear label")
    return found[:MOST]
