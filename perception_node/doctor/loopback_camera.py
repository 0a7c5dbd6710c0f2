# SPDX-License-Identifier: Apache-2.0
"""The driver of a camera, as far as its images go: typed, best effort, of two sizes.

    python -m perception_node.doctor.loopback_camera WHO

sends tiny images until a line comes on stdin, then ``SENT`` of each size, and then says so on
stdout. It ends when stdin does. It sets nothing up: what its environment says is what it has.
"""

from __future__ import annotations

import select
import sys
import time
from array import array
from typing import TYPE_CHECKING

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

if TYPE_CHECKING:
    from rclpy.publisher import Publisher

SIZES = {"640x480": (640, 480), "1920x1080": (1920, 1080)}  # width, height
SENT = 15
PERIOD_S, GREETING_PERIOD_S = 1 / 30, 0.05
GREETING, FRAME = "greeting", "frame"  # frame_id of the tiny ones, and of those that count
# As drivers publish and the node subscribes, but deep enough for the reader to be late.
SENSOR_DATA = QoSProfile(depth=SENT, reliability=ReliabilityPolicy.BEST_EFFORT)


def topic_of(who: str, size: str) -> str:
    """Return where the images of a camera and a size are; `ros2 topic list` does not show it."""
    return f"/_perception_doctor/{who}/size_{size}"


def main(who: str) -> None:
    """Send images as the module says."""
    rclpy.init(args=[])
    node = rclpy.create_node("perception_doctor_camera")
    publishers = {
        size: node.create_publisher(Image, topic_of(who, size), SENSOR_DATA) for size in SIZES
    }
    while not select.select([sys.stdin], [], [], GREETING_PERIOD_S)[0]:
        for publisher in publishers.values():
            publisher.publish(_make_image(1, 1, GREETING))
    if sys.stdin.readline():
        for size, publisher in publishers.items():
            _send(publisher, _make_image(*SIZES[size], FRAME))
        sys.stdout.write("sent\n")
        sys.stdout.flush()
        sys.stdin.readline()
    node.destroy_node()
    rclpy.try_shutdown()


def _make_image(width: int, height: int, frame_id: str) -> Image:
    """Make a black bgr8 image."""
    header, step = Header(frame_id=frame_id), 3 * width
    image = Image(header=header, height=height, width=width, encoding="bgr8", step=step)
    image.data = array("B", bytes(step * height))
    return image


def _send(publisher: Publisher, image: Image) -> None:
    for _ in range(SENT):
        publisher.publish(image)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main(sys.argv[1])
