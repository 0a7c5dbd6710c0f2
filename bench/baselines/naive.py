# SPDX-License-Identifier: Apache-2.0
"""The classifier that people write today, in the way that tutorials show it.

    python -m perception_node.bench.baselines.naive --ros-args -r image:=/camera/image_raw

A typed subscription with the default QoS, ``rclpy.spin``, the conversion that cv_bridge does,
torchvision's recipe with Pillow and NumPy, an ONNX Runtime session as it comes: so do most public
classifiers in Python, NVIDIA-AI-IOT/ros2_torch_trt among them. Nothing is slowed down on purpose.
The Fast DDS profile is ours, because without it camera-sized images would be lost, and model,
recipe and normalisation are those of the bundle, so that both nodes compute the same.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification, ObjectHypothesis

from perception_node.bench.levels.node_run import INFERENCE
from perception_node.bench.preprocessing import pillow
from perception_node.bench.reporting.durations import Durations
from perception_node.model.bundle import load_bundle
from perception_node.ros.compat import RCLError
from perception_node.ros.transport import use_large_frames
from perception_node.system.resources import find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.untyped import Message

TOP_K = 5
# Channels of each encoding in memory, and how cv_bridge makes rgb8 of it; None: it is that.
TO_RGB: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
}


class NaiveClassifier(Node):  # type: ignore[misc] # rclpy is untyped
    """Classifies each image in the callback that receives it.

    Attributes:
        inference: how long the model took, which is not the node's own doing.

    """

    def __init__(self) -> None:
        """Load the model, subscribe."""
        super().__init__("perception")
        model = self.declare_parameter("model", "").value
        transport = self.declare_parameter("image_transport", "raw").value
        threads = self.declare_parameter("threads", 0).value
        bundle = load_bundle(find_model(model))
        self.inference = Durations()
        self._manifest = bundle.manifest
        self._session = _make_session(bundle.read(), threads)
        self._publisher = self.create_publisher(Classification, "~/classification", 10)
        if transport == "compressed":
            topic = f"{self.resolve_topic_name('image')}/compressed"
            self.create_subscription(CompressedImage, topic, self._on_compressed, 10)
        else:
            self.create_subscription(Image, "image", self._on_image, 10)

    def _on_image(self, message: Image) -> None:
        self._classify(message.header, to_rgb(message))

    def _on_compressed(self, message: CompressedImage) -> None:
        picture: Any = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        self._classify(message.header, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    def _classify(self, header: Message, rgb: NDArray[Any]) -> None:
        manifest, size = self._manifest, self._manifest.input
        pixels = pillow(rgb, manifest.preprocessing, (size.height, size.width))
        begin_ns = time.monotonic_ns()
        (scores,) = self._session.run([manifest.output.name], {size.name: pixels})[0]
        self.inference.add(time.monotonic_ns() - begin_ns)
        if manifest.output.kind == "logits":
            scores = softmax(scores)
        elif manifest.output.kind == "sigmoid-logits":
            scores = 1.0 / (1.0 + np.exp(-scores))
        best = np.argsort(scores)[::-1][:TOP_K]
        results = [ObjectHypothesis(class_id=str(i), score=float(scores[i])) for i in best]
        self._publisher.publish(Classification(header=header, results=results))


def to_rgb(message: Image) -> NDArray[np.uint8]:
    """Do what ``CvBridge().imgmsg_to_cv2(message, "rgb8")`` does.

    Returns uint8 (height, width, 3).
    """
    channels, conversion = TO_RGB[message.encoding]
    shape = (message.height, message.width, channels)
    strides = (message.step, channels, 1)
    picture: NDArray[np.uint8] = np.ndarray(shape, np.uint8, message.data, 0, strides)
    if conversion is None:
        return picture
    return np.asarray(cv2.cvtColor(picture, conversion), np.uint8)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities."""
    exponentials = np.exp(logits - np.max(logits))
    return np.asarray(exponentials / exponentials.sum(), np.float32)


def _make_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session as it comes, or one with a fixed number of threads, to compare alike."""
    # Not by open_session: the settings that it makes are a part of what is compared with this.
    if not threads:
        return onnxruntime.InferenceSession(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options)


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    use_large_frames()
    rclpy.init()
    node = NaiveClassifier()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException, RCLError):
        if rclpy.ok():  # otherwise the signal came, maybe in the middle of a callback
            raise
    rclpy.try_shutdown()
    print(f"{INFERENCE}{node.inference.encode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
