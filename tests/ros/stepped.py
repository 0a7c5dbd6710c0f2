# SPDX-License-Identifier: Apache-2.0
"""The node, a camera and a subscriber in one thread, which makes hundreds of rounds cheap.

As a program it goes through rounds of the lifecycle and prints what it then holds, as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecyclePublisher, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from perception_node.ros.node import PerceptionNode
from tests.memory import memory_kib
from tests.ros.harness import DEADLINE_S, PARAMETERS, make_image, stamp_of

AGAIN_S = 0.2
SPIN_S = 0.02
SHORT_LIVED = 300_000
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR
# What rclpy does for the node, where faults are injected.
RCLPY_CALLS = (
    (LifecyclePublisher, "on_activate"),
    (LifecyclePublisher, "on_deactivate"),
    (Publisher, "publish"),
)


class Stepped:
    """A node that does nothing between two calls of its test: no thread turns its executor."""

    def __init__(self, context, node):
        self.node = node
        self.context = context
        self.topics = [node.resolve_topic_name(t) for t in node.config.cameras.image_topics]
        self._stamp_ns = 0
        self._stamps = []
        self._other = rclpy.create_node("other", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._executor.add_node(self._other)
        self._cameras = [self._other.create_publisher(Image, topic, 1) for topic in self.topics]
        for topic in self.topics:
            name = f"{topic.rpartition('/')[0]}/{node.get_name()}/classification"
            self._other.create_subscription(Classification, name, self._take, 10)

    def step(self, name):
        """Trigger a transition."""
        return getattr(self.node, f"trigger_{name}")()

    def state(self):
        """Return the name of the lifecycle's state."""
        return self.node._state_machine.current_state[1]

    def go_on(self, *names):
        """Trigger transitions that succeed."""
        for name in names:
            result = self.step(name)
            assert result == SUCCESS, f"{name}: {result}"

    def classify(self):
        """Send each camera's frames until one is answered."""
        for camera in self._cameras:
            self._stamp_ns += 1
            message, end_s = make_image("green", self._stamp_ns), time.monotonic() + DEADLINE_S
            while self._stamp_ns not in self._stamps:
                assert time.monotonic() < end_s, "no frame was answered"
                camera.publish(message)
                self._spin(AGAIN_S)

    def close(self):
        """Free everything."""
        self._executor.shutdown()
        self.node.release()
        for node in (self.node, self._other):
            node.destroy_node()
        self.context.try_shutdown()

    def _take(self, result):
        self._stamps.append(stamp_of(result))

    def _spin(self, duration_s):
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s and self._stamp_ns not in self._stamps:
            self._executor.spin_once(timeout_sec=SPIN_S)


@contextmanager
def stepped_node(domain, **parameters):
    """Yield the node, unconfigured."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    given = {**PARAMETERS, **parameters}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    robot = Stepped(context, PerceptionNode(context=context, parameter_overrides=overrides))
    try:
        yield robot
    finally:
        robot.close()


def working_threads():
    """Return the names of our threads that run."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("perception-"))


class _Mallinfo(ctypes.Structure):
    """Of malloc.h; ``used`` and ``mapped`` are uordblks and hblkhd there."""

    _fields_ = (
        ("others", ctypes.c_size_t * 4),
        ("mapped", ctypes.c_size_t),
        ("more", ctypes.c_size_t * 2),
        ("used", ctypes.c_size_t),
        ("rest", ctypes.c_size_t * 2),
    )


def _used_kib():
    """Return what is allocated; unlike RSS it does not depend on how free blocks lie."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo
    found = library.mallinfo2()
    return (found.used + found.mapped) >> 10


def _holdings():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "objects": len(gc.get_objects()),
        "used_kib": _used_kib(),
        "rss_kib": memory_kib(os.getpid()),
    }


def main(model, domain, rounds, period):
    """Go through the rounds; look around and classify in the first of each period."""
    samples = []
    # Python's table of strings has then room for all that come and go: it would double one day.
    short_lived = [sys.intern(f"soon forgotten {number}") for number in range(SHORT_LIVED)]
    del short_lived
    with stepped_node(domain, model=model) as robot:
        for number in range(rounds + 1):
            if is_due := number % period == 0:
                samples.append(_holdings())
            robot.go_on("configure", "activate")
            if is_due:
                robot.classify()
                robot.node._statuses()  # when its timer is due is chance, and it imports
            robot.go_on("deactivate", "cleanup")
    sys.stdout.write(json.dumps(samples))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
