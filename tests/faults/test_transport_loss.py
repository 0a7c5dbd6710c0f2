# SPDX-License-Identifier: Apache-2.0
"""Cameras that come, go and do not fit, and what gets lost between them and the node."""

from __future__ import annotations

import sys
import time

import pytest
from sensor_msgs.msg import Image

from perception_node.flow.accounts import RESTARTED, SEVERAL, UNNUMBERED
from perception_node.ros.compat import PROFILE_VARIABLES
from perception_node.ros.qos import named_qos
from tests.ros.harness import (
    IS_NUMBERED,
    Program,
    Stream,
    account,
    make_image,
    require_balance,
    wait_for,
)

pytestmark = [pytest.mark.ros, pytest.mark.alone]
OK, WARN, ERROR, STALE = range(4)
FRAMES = 30
RESTARTS = 20
PERIOD_S = 0.03
RELIABLE, BEST_EFFORT = named_qos("default"), named_qos("sensor_data")
# A driver of its own: the size of the shared memory is that of the process that publishes.
CAMERA = f"""
import signal, sys, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
while not publisher.get_subscription_count():
    time.sleep(0.01)
image = Image(height=480, width=640, encoding="bgr8", step=640 * 3)
image.data.frombytes(bytes(640 * 480 * 3))
for number in range(1, {FRAMES} + 1):
    image.header.stamp.nanosec = number
    publisher.publish(image)
    time.sleep({PERIOD_S})
print("done", flush=True)
signal.pause()
"""


def start_camera(domain, environment):
    """Return a camera's driver, a process of its own."""
    command = [sys.executable, "-c", CAMERA]
    return Program(command, {"ROS_DOMAIN_ID": str(domain), **environment})


def number(diagnostics, key):
    return int(diagnostics.value(key) or 0)


def test_a_driver_with_little_shared_memory_loses_frames_and_is_told_why(start, peer, domain):
    diagnostics = peer.watch()
    with start(diagnostics_period_s=0.3) as node:
        peer.wait_until("active")
        with start_camera(domain, dict.fromkeys(PROFILE_VARIABLES.values())):
            status = diagnostics.wait_for_level("connection", WARN)
            assert "image(s) were lost on the way" in status.message
            assert "start the camera's driver with our Fast DDS profile" in status.message
            wait_for(lambda: number(diagnostics, "lost on the way") >= FRAMES / 2, node.log)
            if IS_NUMBERED:
                diagnostics.wait_for_value("replaced by newer ones", 0)
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["received"] < FRAMES / 2


def test_a_driver_with_our_profile_loses_none(start, peer, domain):
    diagnostics = peer.watch()
    with start():
        peer.wait_until("active")
        with start_camera(domain, {}) as camera:
            wait_for(lambda: "done" in camera.log(), camera.log)
            diagnostics.skip(3)
        assert number(diagnostics, "lost on the way") == 0
        # The first may be sent before the node has found the driver.
        assert number(diagnostics, "received") > FRAMES / 2


def test_a_camera_that_does_not_fit_is_an_error_that_names_the_policy(start, peer):
    diagnostics = peer.watch()
    with start(image_qos="default") as node:
        peer.wait_until("active")
        wrong = peer.node.create_publisher(Image, "image", BEST_EFFORT)
        status = diagnostics.wait_for_level("connection", ERROR)
        assert status.message == (
            "a publisher of /image was refused for its reliability; "
            "set image_qos to sensor_data, or change the camera's QoS"
        )
        wrong.publish(make_image("red", 1))
        diagnostics.skip(3)
        lines = [line for line in node.log_lines() if "refused for its reliability QoS" in line]
        assert len(lines) == 1
        assert "[WARN]" in lines[0]
        assert "set image_qos to sensor_data" in lines[0]
        # Another camera does fit: the refused one is no error any more.
        Stream(peer, qos=RELIABLE).classify(make_image("green", 2))
        diagnostics.wait_for_level("connection", OK)
        assert number(diagnostics, "received") > 0


def require_answer(stream, stamp_ns):
    """Send frames later than a stamp, as a camera does, until one is answered; return the last."""
    stream.wait_until_heard()
    before_ns = stamp_ns

    def is_answered():
        nonlocal stamp_ns
        stamp_ns += 1
        stream.camera.publish(make_image("red", stamp_ns))
        time.sleep(PERIOD_S)
        return max(stream.stamps(), default=0) > before_ns

    wait_for(is_answered, lambda: f"an answer to stamps up to {stamp_ns}")
    return stamp_ns


def test_a_driver_may_be_restarted_twenty_times_with_another_qos(start, peer):
    diagnostics = peer.watch()
    with start() as node:
        stream = Stream(peer)
        stamp_ns = require_answer(stream, 0)
        for restart in range(RESTARTS):
            peer.node.destroy_publisher(stream.camera)
            stream.camera = peer.camera(qos=(RELIABLE, BEST_EFFORT)[restart % 2])
            stamp_ns = require_answer(stream, stamp_ns)
        diagnostics.wait_for_value("publishers", 1)
        assert number(diagnostics, "lost on the way") == 0
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert (RESTARTED if IS_NUMBERED else UNNUMBERED) in counts["doubt"]
    assert counts["published"] == len(stream.results) > RESTARTS
    assert stream.stamps() == sorted(stream.stamps())


def test_two_publishers_of_one_topic_are_both_answered(start, peer):
    diagnostics = peer.watch()
    with start() as node:
        streams = [Stream(peer), Stream(peer)]
        for index, stream in enumerate(streams):
            stream.classify(make_image("red", 1 + index))
        diagnostics.wait_for_value("publishers", 2)
        for stamp_ns in range(10, 30):
            streams[stamp_ns % 2].classify_once(make_image("green", stamp_ns))
        # Numbers of two publishers are no gaps.
        assert diagnostics.value("replaced by newer ones").startswith("at least 0")
        peer.node.destroy_publisher(streams[0].camera)
        diagnostics.wait_for_value("publishers", 1)
        streams[1].classify_once(make_image("blue", 40))
        assert node.end() == 0
        counts = account(node.log())
    require_balance(counts)
    assert counts["received"] == counts["published"]
    assert (SEVERAL if IS_NUMBERED else UNNUMBERED) in counts["doubt"]
