# SPDX-License-Identifier: Apache-2.0
"""What nodes say of each image of a replay: its outcome and, if there is one, its result."""

from __future__ import annotations

import time
from functools import partial
from queue import Empty, Queue
from typing import TYPE_CHECKING, NamedTuple

from perception_node.rehearsal.listener import LATENCY, PUBLISHED, RESULTS, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vision_msgs.msg import Classification

    from perception_node.rehearsal.listener import Listener
    from perception_node.untyped import Message

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
    """Hears ~/classification and ~/latency of some cameras.

    Attributes:
        labels: names of the classes by their ids, of each camera's node, by prefix.

    """

    def __init__(
        self, listener: Listener, prefixes: Iterable[str], check: Callable[[], None]
    ) -> None:
        """Listen.

        Args:
            listener: hears them.
            prefixes: where the cameras' results are.
            check: called again and again while an answer is awaited; may raise.

        """
        self.labels = listener.labels
        self._check = check
        self._heard: dict[tuple[str, Output], Queue[Message]] = {}
        for prefix in prefixes:
            for output in (RESULTS, LATENCY):
                self._heard[prefix, output] = Queue()
            listener.subscribe(
                prefix, {o: partial(self._note, prefix, o) for o in (RESULTS, LATENCY)}
            )

    def wait(
        self, prefix: str, is_wanted: Callable[[str], bool], timeout_s: float
    ) -> Answer | None:
        """Wait for what is said of an image of a camera; None if nothing is in time.

        Args:
            prefix: the camera.
            is_wanted: whether a ``frame_id`` is the image's; all others are thrown away.
            timeout_s: how long to wait.

        """
        end_s = time.monotonic() + timeout_s
        latency = self._take(prefix, LATENCY, is_wanted, end_s)
        if latency is None:
            return None
        outcome = latency.status[0].message
        if outcome != PUBLISHED:
            return Answer(outcome, None)
        result = self._take(prefix, RESULTS, is_wanted, end_s)
        return None if result is None else Answer(outcome, result)

    def _note(self, prefix: str, output: Output, message: Message, _received_ns: int) -> None:
        self._heard[prefix, output].put(message)

    def _take(
        self, prefix: str, output: Output, is_wanted: Callable[[str], bool], end_s: float
    ) -> Message | None:
        """Return the next message whose header has a wanted frame_id, or None after ``end_s``."""
        while (left_s := end_s - time.monotonic()) > 0.0:
            try:
                message = self._heard[prefix, output].get(timeout=min(left_s, POLL_S))
            except Empty:
                self._check()
                continue
            if is_wanted(message.header.frame_id):
                return message
        return None
