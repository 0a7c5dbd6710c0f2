# SPDX-License-Identifier: Apache-2.0
"""Hear what nodes say: classifications, labels, ~/latency, overlays, /diagnostics, their state."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from perception_node.rehearsal.heard import Result
from perception_node.ros.messages import to_nanoseconds
from perception_node.ros.qos import LATCHED, named_qos
from perception_node.ros.spinning import SpinningThread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from perception_node.untyped import Message

    Note = Callable[[Message, int], None]  # a message, and when it came on the steady clock
    Write = Callable[[str, str, bytes, int], None]

PUBLISHED = "published"  # the outcome of a frame that was not dropped
DEPTH = 1000  # what waits for this process's turn must not be lost: it is counted


@dataclass(frozen=True, eq=False)  # rclpy's QoS has no hash
class Output:
    """What a node publishes.

    Attributes:
        topic: where, behind the node's name; from the root if all nodes share it.
        kind: class of the messages.
        qos: with which it is subscribed to.

    """

    topic: str
    kind: type
    qos: QoSProfile | int = DEPTH


RESULTS = Output("classification", Classification)
LATENCY = Output("latency", DiagnosticArray)
DIAGNOSTICS = Output("/diagnostics", DiagnosticArray)
INFO = Output("vision_info", VisionInfo, LATCHED)
LABELS = Output("label_info", LabelInfo, LATCHED)
OVERLAYS = Output("overlay", Image, named_qos("sensor_data"))


class Listener:
    """Hears on a thread of its own, from entering to leaving.

    Attributes:
        labels: names of the classes by their ids, of each node that has said them.

    """

    def __init__(self, node: Node, write: Write | None = None) -> None:
        """Prepare to listen with ``node``.

        Args:
            node: owner of the subscriptions.
            write: gets each message but the overlays as it came: topic, type, CDR bytes,
                nanoseconds since the epoch.

        """
        self.labels: dict[str, dict[str, str]] = {}
        self._node, self._write = node, write
        self._targets: list[str] = []
        self._thread = SpinningThread(node, "listener")

    def __enter__(self) -> Listener:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread."""
        self._thread.stop()

    def subscribe(
        self,
        target: str,
        notes: Mapping[Output, Note],
        results_qos: QoSProfile | None = None,
    ) -> None:
        """Listen to outputs of a node.

        Args:
            target: the node's name such as ``/perception``, or what its topics begin with.
            notes: what gets the messages of each output.
            results_qos: must fit the node's classifications; None for the usual one.

        """
        self._targets.append(target)
        for output, note in notes.items():
            qos = results_qos if output is RESULTS and results_qos else output.qos
            self._subscribe(target, output, note, qos)
        # The last: discovery keeps this order, so the node knows the others by then.
        self._subscribe(target, LABELS, partial(self._on_labels, target), LATCHED)

    @property
    def is_matched(self) -> bool:
        """All nodes are configured, and what they publish will reach us."""
        return bool(self._targets) and all(target in self.labels for target in self._targets)

    def to_result(self, target: str, message: Classification, received_ns: int) -> Result:
        """Return a classification as a record of its best class."""
        stamp_ns = to_nanoseconds(message.header.stamp)
        if not message.results:
            return Result(stamp_ns, received_ns, "", 0.0)
        best = message.results[0]
        label = self.labels.get(target, {}).get(best.class_id, best.class_id)
        return Result(stamp_ns, received_ns, label, float(best.score), best.class_id)

    def _subscribe(self, target: str, output: Output, note: Note, qos: QoSProfile | int) -> None:
        topic = output.topic if output.topic.startswith("/") else f"{target}/{output.topic}"
        kind, is_bytes = output.kind, output is not OVERLAYS  # which a middleware may keep back
        type_name = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"

        def on_message(message: Message) -> None:
            received_ns = time.monotonic_ns()
            note(deserialize_message(message, kind) if is_bytes else message, received_ns)
            if self._write is not None and is_bytes:
                self._write(topic, type_name, message, time.time_ns())

        self._node.create_subscription(kind, topic, on_message, qos, raw=is_bytes)

    def _on_labels(self, target: str, message: LabelInfo, _received_ns: int) -> None:
        self.labels[target] = {str(c.class_id): c.class_name for c in message.class_map}


def read_age_ms(message: DiagnosticArray) -> float | None:
    """Return the age that a message of ~/latency states; None of a frame that was dropped."""
    status = message.status[0]
    ages = (float(pair.value) for pair in status.values if pair.key == "age (ms)")
    return next(ages, None) if status.message == PUBLISHED else None
