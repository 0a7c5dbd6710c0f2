# SPDX-License-Identifier: Apache-2.0
"""What nodes say of each image of a replay: its outcome and, if there is one, its result."""

from __future__ import annotations

import time
from functools import partial
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from vision_msgs.msg import Classification, LabelInfo

from perception_node.ros.qos import LATCHED
from perception_node.ros.spinning import SpinningThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rclpy.node import Node

PUBLISHED = "published"
DEPTH = 100
POLL_S = 0.2  # how often ``check`` is called meanwhile


class Answer(NamedTuple):
    """All that a node says of one image.

    Attributes:
        outcome: ``published``, or why it was dropped; see ``FrameTrace``.
        result: the classification, where it was published.

    """

    outcome: str
    result: Classification | None


class LiveAnswers:
    """Subscribes to ~/classification, ~/latency and ~/label_info of some cameras.

    Callbacks run on a thread of its own.

    Attributes:
        labels: names of the classes by their ids, of each camera's node, by prefix.

    """

    def __init__(self, node: Node, prefixes: Iterable[str]) -> None:
        """Listen with ``node``; ``prefixes`` say where the cameras' results are."""
        self.labels: dict[str, dict[str, str]] = {}
        self._node = node
        self._prefixes = tuple(prefixes)
        self._outcomes: dict[str, Queue[Any]] = {prefix: Queue() for prefix in self._prefixes}
        self._results: dict[str, Queue[Any]] = {prefix: Queue() for prefix in self._prefixes}
        self._thread = SpinningThread(node, "live-answers")

    def __enter__(self) -> LiveAnswers:
        """Subscribe and start the thread."""
        subscribe = self._node.create_subscription
        for prefix in self._prefixes:
            results, outcomes = self._results[prefix], self._outcomes[prefix]
            subscribe(Classification, f"{prefix}/classification", results.put, DEPTH)
            subscribe(DiagnosticArray, f"{prefix}/latency", outcomes.put, DEPTH)
            on_labels = partial(self._on_labels, prefix)
            subscribe(LabelInfo, f"{prefix}/label_info", on_labels, LATCHED)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread."""
        self._thread.stop()

    def wait(
        self,
        prefix: str,
        is_wanted: Callable[[str], bool],
        timeout_s: float,
        check: Callable[[], None],
    ) -> Answer | None:
        """Wait for what is said of an image of a camera; None if nothing is in time.

        Args:
            prefix: the camera.
            is_wanted: whether a ``frame_id`` is the image's; all others are thrown away.
            timeout_s: how long to wait.
            check: called again and again meanwhile; may raise.

        """
        end_s = time.monotonic() + timeout_s
        latency = _take(self._outcomes[prefix], is_wanted, end_s, check)
        if latency is None:
            return None
        outcome = latency.status[0].message
        if outcome != PUBLISHED:
            return Answer(outcome, None)
        result = _take(self._results[prefix], is_wanted, end_s, check)
        return None if result is None else Answer(outcome, result)

    def _on_labels(self, prefix: str, message: LabelInfo) -> None:
        self.labels[prefix] = {str(c.class_id): c.class_name for c in message.class_map}


def _take(
    queue: Queue[Any], is_wanted: Callable[[str], bool], end_s: float, check: Callable[[], None]
) -> Any:  # noqa: ANN401 - message classes share no base
    """Return the next message whose header has a wanted frame_id, or None after ``end_s``."""
    while (left_s := end_s - time.monotonic()) > 0.0:
        try:
            message = queue.get(timeout=min(left_s, POLL_S))
        except Empty:
            check()
            continue
        if is_wanted(message.header.frame_id):
            return message
    return None
