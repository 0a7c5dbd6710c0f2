# SPDX-License-Identifier: Apache-2.0
"""Cameras on an absolute schedule, in a process of their own that does as little as possible.

    python -m perception_node.bench.levels.camera_process '{"load": {...}, "topics": [...]}'

Started by ``node_level``. A frame is sent when it is due, whatever became of the others: an open
loop, so that a slow node cannot slow its camera down and hide how slow it is.
"""

from __future__ import annotations

import ctypes
import gc
import select
import sys
import time
from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from perception_node.bench.camera.camera_messages import write_stamp
from perception_node.bench.camera.load import make_messages, read_load
from perception_node.bench.levels.camera_schedule import plan, to_system_ns
from perception_node.bench.levels.child_process import take_task
from perception_node.bench.levels.frame_records import MATCHED, SENT
from perception_node.rehearsal.player import DEPTH
from perception_node.ros.compat import make_raw_sender
from perception_node.ros.session import open_session
from perception_node.system.process import freeze_garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.bench.camera.load import Load

TYPES = {"raw": Image, "compressed": CompressedImage}
POLL_S = 0.02
LEAD_NS = 50_000_000  # before the first frame
PR_SET_TIMERSLACK, SHORTEST_SLACK_NS = 29, 1  # linux/prctl.h


def main() -> None:
    """Wait for subscribers, then for the word to begin; play; stay until told to end."""
    task, write = take_task()
    load = read_load(task["load"])
    messages = make_messages(load)
    with open_session("perception_bench_camera") as node:
        publishers = [
            node.create_publisher(TYPES[load.transport], topic, QoSProfile(depth=DEPTH))
            for topic in task["topics"]
        ]
        while not all(p.get_subscription_count() for p in publishers):
            if select.select([sys.stdin], [], [], POLL_S)[0]:
                return  # the parent is gone
        write(SENT.pack(MATCHED, *[0] * 5))
        if sys.stdin.readline():
            _settle()
            sends = [make_raw_sender(publisher) for publisher in publishers]
            play(load, messages, sends, write)
            sys.stdin.read()  # what was sent last may still have to be repeated


def play(
    load: Load,
    messages: Sequence[bytearray],
    sends: Sequence[Callable[[bytearray], None]],
    write: Callable[[bytes], None],
) -> None:
    """Send every frame when it is due, and say so right after it."""
    start_ns = time.monotonic_ns() + LEAD_NS
    for turn in plan(load):
        due_ns = start_ns + turn.due_ns
        message = messages[(turn.number + turn.camera) % len(messages)]
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        stamp_ns = to_system_ns(due_ns)
        write_stamp(message, stamp_ns)
        call_ns = time.monotonic_ns()
        sends[turn.camera](message)
        return_ns = time.monotonic_ns()
        write(SENT.pack(turn.camera, turn.number, stamp_ns, due_ns, call_ns, return_ns))


def _settle() -> None:
    """Let nothing of Python's or the kernel's delay a frame that need not."""
    freeze_garbage()
    gc.disable()
    # By default the kernel may let a sleep take 50 us longer, to wake up less often.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, SHORTEST_SLACK_NS, 0, 0, 0)


if __name__ == "__main__":
    main()
