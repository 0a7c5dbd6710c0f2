# SPDX-License-Identifier: Apache-2.0
"""The least that a node in Python costs: image in, fastest preprocessing, fixed answer out.

    python -m perception_node.bench.baselines.floor --ros-args -r image:=/camera/image_raw

No inference, no deadline, no account of frames, no thread but the executor's. What a node takes
longer than this, beside its inference, is its own.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification, ObjectHypothesis

from perception_node.config.sections import CameraConfig
from perception_node.model.bundle import load_bundle
from perception_node.ros.compat import make_events_executor
from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.messages import to_header
from perception_node.ros.qos import image_qos
from perception_node.ros.session import open_session
from perception_node.system.process import freeze_garbage, use_one_opencv_thread
from perception_node.system.resources import find_model
from perception_node.system.signals import StopEvent
from perception_node.vision.frame import Unpacker
from perception_node.vision.preprocess import Preprocessor
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from rclpy.node import Node

    from perception_node.model.bundle import Manifest
    from perception_node.untyped import Message
    from perception_node.vision.frame import Frame

WAKE_UP_S = 0.2  # to see a signal; EventsExecutor needs a finite timeout as well
RESULTS = [ObjectHypothesis(class_id=str(number), score=0.2) for number in range(5)]


class FastestPreprocessor:
    """Stretches with OpenCV's linear resize, which aliases, and normalises, into fixed buffers."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for one model."""
        self._size = (manifest.input.width, manifest.input.height)
        self._output = np.empty((1, 3, *self._size[::-1]), np.float32)
        self._unpack = Unpacker().unpack
        # Of an image that has the input's size already, this one does little but normalise it.
        recipe = replace(manifest.preprocessing, resize="stretch", interpolation="bilinear")
        self._normalise = Preprocessor(recipe, self._output)
        self._small: Any = None

    def __call__(self, frame: Frame) -> None:
        """Fill the tensor from one frame."""
        pixels, order = self._unpack(frame)
        self._small = cv2.resize(pixels, self._size, self._small, interpolation=cv2.INTER_LINEAR)
        self._normalise(self._small, order)


def subscribe(node: Node) -> None:
    """Answer each image with the same results under its own header."""
    model = node.declare_parameter("model", "").value
    transport = node.declare_parameter("image_transport", "raw").value
    manifest = load_bundle(find_model(model)).manifest
    read = ImageReader(transport, CameraConfig().max_image_pixels, manifest.smallest_side).read
    preprocess = FastestPreprocessor(manifest)
    publisher = node.create_publisher(Classification, "~/classification", 10)

    def on_image(message: Message) -> None:
        frame = read(message)
        preprocess(frame)
        header = to_header(frame.stamp_ns, frame.frame_id)
        publisher.publish(Classification(header=header, results=RESULTS))

    name, kind = "image", Image
    if transport == "compressed":
        name, kind = f"{node.resolve_topic_name(name)}/compressed", CompressedImage
    raw = find_delivery(node, kind) == BYTES
    node.create_subscription(kind, name, on_image, image_qos("sensor_data"), raw=raw)


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    stop = StopEvent()
    use_one_opencv_thread()
    with open_session("perception", sys.argv[1:]) as node:
        subscribe(node)
        executor = make_events_executor() or SingleThreadedExecutor()
        executor.add_node(node)
        freeze_garbage()
        while not stop.is_set() and rclpy.ok():
            executor.spin_once(timeout_sec=WAKE_UP_S)
        executor.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
