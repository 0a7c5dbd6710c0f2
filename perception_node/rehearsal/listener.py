# SPDX-License-Identifier: Apache-2.0
"""Watch a node from outside: its classifications, labels, overlay and diagnostics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo

from perception_node.ros.messages import to_nanoseconds
from perception_node.ros.qos import LATCHED, named_qos
from perception_node.ros.spinning import SpinningThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from rclpy.node import Node


class Result(NamedTuple):
    """One classification as a subscriber gets it.

    Attributes:
        stamp_ns: the image's own stamp.
        received_ns: when it arrived, on this process's steady clock.
        label: name of the best class, empty if none reached the threshold.
        score: its score.

    """

    stamp_ns: int
    received_ns: int
    label: str
    score: float


class Listener:
    """Subscribes to all that a node says; callbacks run on a thread of its own.

    Attributes:
        pictures: overlays, uint8 BGR (height, width, 3), by the image's stamp.
        diagnostics: values of the last /diagnostics of the node.
        diagnostics_received: number of /diagnostics messages so far.

    """

    def __init__(self, node: Node, target: str, on_result: Callable[[Result], None]) -> None:
        """Listen with ``node`` to the node named ``target``, such as ``/perception``."""
        self.pictures: dict[int, NDArray[np.uint8]] = {}
        self.diagnostics: dict[str, str] = {}
        self.diagnostics_received = 0
        self._node = node
        self._target = target
        self._on_result = on_result
        self._labels: dict[str, str] = {}
        self._thread = SpinningThread(node, "listener")

    def __enter__(self) -> Listener:
        """Subscribe and start the thread."""
        subscribe, target = self._node.create_subscription, self._target
        subscribe(LabelInfo, f"{target}/label_info", self._on_labels, LATCHED)
        subscribe(Classification, f"{target}/classification", self._on_classification, 10)
        subscribe(Image, f"{target}/overlay", self._on_overlay, named_qos("sensor_data"))
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread."""
        self._thread.stop()

    @property
    def has_labels(self) -> bool:
        """The node is configured, and what it publishes reaches us."""
        return bool(self._labels)

    def _on_labels(self, message: LabelInfo) -> None:
        self._labels = {str(c.class_id): c.class_name for c in message.class_map}

    def _on_classification(self, message: Classification) -> None:
        received_ns = time.monotonic_ns()
        label, score = "", 0.0
        if message.results:
            best = message.results[0]
            label, score = self._labels.get(best.class_id, best.class_id), best.score
        self._on_result(Result(to_nanoseconds(message.header.stamp), received_ns, label, score))

    def _on_overlay(self, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8)
        picture = pixels.reshape(message.height, message.width, 3)
        self.pictures[to_nanoseconds(message.header.stamp)] = picture

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if f"/{status.name}".startswith(f"{self._target}:"):
                self.diagnostics.update((pair.key, pair.value) for pair in status.values)
        self.diagnostics_received += 1
