# SPDX-License-Identifier: Apache-2.0
"""Hears results in a process of its own and says when each came.

    python -m perception_node.bench.levels.subscriber_process '{"results": [...], ...}'

Started by ``node_level``. Of a message only that is read which joins it to its image: ~/latency
goes to the parent as it came, which reads it after the run.
"""

from __future__ import annotations

import select
import struct
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import (
    ExternalShutdownException,
    SingleThreadedExecutor,
)
from vision_msgs.msg import Classification, LabelInfo

from perception_node.bench.levels.child_process import take_task
from perception_node.bench.levels.frame_records import (
    GRAPH,
    LATENCY,
    READY,
    RESULT,
    Heard,
    pack_heard,
)
from perception_node.rehearsal.graph import describe_topics
from perception_node.ros.qos import LATCHED
from perception_node.ros.session import open_session
from perception_node.system.process import freeze_garbage
from perception_node.wire.images import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

DEPTH = 1000  # what waits for this process's turn must not be lost: it is counted
POLL_S = 0.02
LONGEST_TEXT = 3000  # bytes; a pipe takes up to 4096 at once, whoever else writes to it
STAMP, SIZE = struct.Struct("<iI"), struct.Struct("<I")
STAMP_BEGIN, STRING_BEGIN = 4, 16


class Subscriber:
    """Subscribes to results and what explains them; ``write`` gets a record of each."""

    def __init__(self, node: Node, task: dict[str, Any], write: Callable[[bytes], None]) -> None:
        """Subscribe.

        Args:
            node: owner of the subscriptions.
            task: topics by camera: ``results``, ``latency`` and ``labels``; the latter two may be
                empty. A subject with labels announces them once it is configured.
            write: called with each record.

        """
        self._write = write
        self._node = node
        self._labels_missing = set(task["labels"])
        self._results = task["results"]
        for camera, topic in enumerate(task["results"]):
            self._subscribe(Classification, topic, self._make_on_result(camera))
        for camera, topic in enumerate(task["latency"]):
            self._subscribe(DiagnosticArray, topic, self._make_on_latency(camera))
        # The last: discovery keeps this order, so the subject knows the others by then.
        for topic in task["labels"]:
            node.create_subscription(LabelInfo, topic, self._make_on_labels(topic), LATCHED)

    @property
    def is_matched(self) -> bool:
        """All that the subject says will be heard."""
        count = self._node.count_publishers
        return not self._labels_missing and all(count(topic) for topic in self._results)

    def _subscribe(self, kind: type, topic: str, callback: Callable[[bytes], None]) -> None:
        self._node.create_subscription(kind, topic, callback, DEPTH, raw=True)

    def _make_on_result(self, camera: int) -> Callable[[bytes], None]:
        def on_result(message: bytes) -> None:
            received_ns = time.monotonic_ns()
            has_result = count_hypotheses(message) > 0
            stamp_ns = read_stamp(message)
            heard = Heard(RESULT, camera, has_result, stamp_ns, received_ns, b"")
            self._write(pack_heard(heard))

        return on_result

    def _make_on_latency(self, camera: int) -> Callable[[bytes], None]:
        def on_latency(message: bytes) -> None:
            received_ns, stamp_ns = time.monotonic_ns(), read_stamp(message)
            heard = Heard(LATENCY, camera, False, stamp_ns, received_ns, message)
            self._write(pack_heard(heard))

        return on_latency

    def _make_on_labels(self, topic: str) -> Callable[[LabelInfo], None]:
        return lambda _message: self._labels_missing.discard(topic)


def read_stamp(message: bytes) -> int:
    """Return the stamp of a serialized little-endian message that begins with a header."""
    sec, nanosec = STAMP.unpack_from(message, STAMP_BEGIN)
    return int(sec * NANOSECONDS + nanosec)


def count_hypotheses(message: bytes) -> int:
    """Return how many results a serialized little-endian Classification has."""
    (size,) = SIZE.unpack_from(message, STRING_BEGIN - 4)
    position = STRING_BEGIN + size
    (count,) = SIZE.unpack_from(message, position + -position % 4)
    return int(count)


def main() -> None:
    """Subscribe; say once that all is matched; answer questions until stdin ends."""
    task, write = take_task()
    with open_session("perception_bench_subscriber") as node:
        subscriber = Subscriber(node, task, write)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=_spin, args=(executor,), name="listener", daemon=True)
        thread.start()
        try:
            freeze_garbage()
            topics, is_announced = task["images"] + task["results"], False
            while True:
                if not is_announced and subscriber.is_matched:
                    write(to_record(READY))
                    is_announced = True
                if select.select([sys.stdin], [], [], None if is_announced else POLL_S)[0]:
                    if not sys.stdin.readline():
                        break
                    write(to_record(GRAPH, describe_topics(node, topics)))
        finally:
            executor.shutdown()
            thread.join()


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):
        executor.spin()


def to_record(kind: int, text: str = "") -> bytes:
    """Return a record that is about no frame."""
    return pack_heard(Heard(kind, 0, False, 0, 0, text.encode()[:LONGEST_TEXT]))


if __name__ == "__main__":
    main()
