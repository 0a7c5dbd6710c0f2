# SPDX-License-Identifier: Apache-2.0
"""Listen to all that a device says, on a thread of its own, with times of the host's clock."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from perception_node.bench.hil.record import Answer, DiagnosticChange, StateChange
from perception_node.ros.messages import to_nanoseconds
from perception_node.ros.qos import LATCHED
from perception_node.ros.spinning import SpinningThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from perception_node.bench.hil.camera import Write
    from perception_node.bench.hil.record import HilRecord

DEPTH = 1000  # what waits for this process's turn must not be lost: it is counted
STATE_PERIOD_S, ASK_AGAIN_S, UNREACHABLE_S = 0.1, 1.0, 2.0
LEVELS = ("OK", "WARN", "ERROR", "STALE")
UNREACHABLE = "unreachable"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class HilListener:
    """Fills a record from entering to leaving.

    Attributes:
        has_labels: the device is configured, and what it publishes reaches us.

    """

    def __init__(self, node: Node, target: str, record: HilRecord, write: Write) -> None:
        """Ask the node named ``target`` for its state again and again, from entering on.

        Args:
            node: owner of the subscriptions.
            target: full name of the device's node.
            record: gets what is heard.
            write: gets each message as it came, as a bag wants it.

        """
        self.has_labels = False
        self._node, self._target = node, target
        self._record, self._write = record, write
        self._labels: dict[str, str] = {}
        self._last_rows: dict[str, tuple[str, str]] = {}
        self._get_state = node.create_client(GetState, f"{target}/get_state")
        self._asked: Any = None
        self._asked_s, self._heard_s = 0.0, 0.0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(STATE_PERIOD_S, self._ask_state, clock=steady)
        self._thread = SpinningThread(node, "listener")

    def __enter__(self) -> HilListener:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread."""
        self._thread.stop()

    @property
    def state(self) -> str:
        """The device's lifecycle state; ``unreachable`` before its first answer."""
        states = self._record.states
        return states[-1].state if states else UNREACHABLE

    def subscribe(self, results_qos: QoSProfile) -> None:
        """Subscribe to everything; ``results_qos`` must fit the device's classifications."""
        target = self._target
        self._hear(Classification, f"{target}/classification", results_qos, self._on_result)
        self._hear(DiagnosticArray, "/diagnostics", DEPTH, self._on_diagnostics)
        self._hear(VisionInfo, f"{target}/vision_info", LATCHED, self._on_info)
        # The last: discovery keeps this order, so the target knows the others by then.
        self._hear(LabelInfo, f"{target}/label_info", LATCHED, self._on_labels)

    def _hear(
        self, kind: type, topic: str, qos: QoSProfile | int, note: Callable[[Any, int], None]
    ) -> None:
        package = kind.__module__.partition(".")[0]
        type_name = f"{package}/msg/{kind.__name__}"

        def on_message(data: bytes) -> None:
            received_ns = time.monotonic_ns()
            note(deserialize_message(data, kind), received_ns)
            self._write(topic, type_name, data, time.time_ns())

        self._node.create_subscription(kind, topic, on_message, qos, raw=True)

    def _on_labels(self, message: LabelInfo, _received_ns: int) -> None:
        self._labels = {str(c.class_id): c.class_name for c in message.class_map}
        self.has_labels = True

    def _on_info(self, message: VisionInfo, _received_ns: int) -> None:
        self._record.device["method"] = message.method

    def _on_result(self, message: Classification, received_ns: int) -> None:
        label, score = "", 0.0
        if message.results:
            best = message.results[0]
            label, score = self._labels.get(best.class_id, best.class_id), float(best.score)
        stamp_ns = to_nanoseconds(message.header.stamp)
        self._record.answers.append(Answer(stamp_ns, received_ns, label, score))

    def _on_diagnostics(self, message: DiagnosticArray, received_ns: int) -> None:
        """Note rows that change; other numbers in the same words are no change."""
        prefix = f"{self._target.lstrip('/')}: "
        for row in message.status:
            if not row.name.startswith(prefix):
                continue
            task, level = row.name.removeprefix(prefix), LEVELS[row.level[0] % len(LEVELS)]
            self._record.device["host"] = row.hardware_id
            seen = (level, NUMBER.sub("#", row.message))
            if self._last_rows.get(task) != seen:
                self._last_rows[task] = seen
                change = DiagnosticChange(received_ns, task, level, row.message)
                self._record.diagnostics.append(change)

    def _ask_state(self) -> None:
        now_s = time.monotonic()
        if now_s - self._heard_s > UNREACHABLE_S and self._record.states:
            self._note_state(UNREACHABLE)
        if self._asked is not None:
            if now_s - self._asked_s < ASK_AGAIN_S:
                return
            self._get_state.remove_pending_request(self._asked)
            self._asked = None
        if self._get_state.service_is_ready():
            self._asked, self._asked_s = self._get_state.call_async(GetState.Request()), now_s
            self._asked.add_done_callback(self._on_state)

    def _on_state(self, future: Any) -> None:  # noqa: ANN401 - rclpy's
        self._asked = None
        if future.cancelled() or future.exception() is not None:
            return
        self._heard_s = time.monotonic()
        self._note_state(str(future.result().current_state.label))

    def _note_state(self, state: str) -> None:
        states = self._record.states
        if not states or states[-1].state != state:
            states.append(StateChange(time.monotonic_ns(), state))
