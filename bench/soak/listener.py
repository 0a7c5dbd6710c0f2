# SPDX-License-Identifier: Apache-2.0
"""Listen to all that a node says during a soak."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from vision_msgs.msg import Classification, LabelInfo

from perception_node.bench.soak.record import Alarm, SoakRecord
from perception_node.ros.messages import to_nanoseconds
from perception_node.ros.qos import LATCHED
from perception_node.ros.spinning import SpinningThread

if TYPE_CHECKING:
    from rclpy.node import Node

DEPTH = 1000  # what waits for this process's turn must not be lost: it is counted
ASK_AGAIN_S = 1.0
POLL_S = 0.02


class SoakListener:
    """Listens on a thread of its own from entering to leaving."""

    def __init__(self, node: Node, target: str) -> None:
        """Subscribe with ``node`` to what the node named ``target``, such as /perception, says."""
        self.record = SoakRecord()
        self.is_matched = False  # the target is configured, and all it says will reach us
        self._target = target.lstrip("/")
        self._thread = SpinningThread(node, "listener")
        self._get_state = node.create_client(GetState, f"{target}/get_state")
        subscribe = node.create_subscription
        subscribe(Classification, f"{target}/classification", self._on_result, DEPTH)
        subscribe(DiagnosticArray, f"{target}/latency", self._on_latency, DEPTH)
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)
        # The last: discovery keeps this order, so the target knows the others by then.
        subscribe(LabelInfo, f"{target}/label_info", self._on_labels, LATCHED)

    def __enter__(self) -> SoakListener:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread."""
        self._thread.stop()

    def is_active(self, timeout_s: float) -> bool:
        """Ask the target for its lifecycle state; False if it is another, or no answer comes."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            future = self._get_state.call_async(GetState.Request())
            asked_s = time.monotonic()
            while not future.done() and time.monotonic() < asked_s + ASK_AGAIN_S:
                time.sleep(POLL_S)
            if future.done():
                return bool(future.result().current_state.id == State.PRIMARY_STATE_ACTIVE)
        return False

    def _on_labels(self, _message: LabelInfo) -> None:
        self.is_matched = True

    def _on_result(self, message: Classification) -> None:
        self.record.arrivals_ns.append(time.time_ns())
        self.record.stamps_ns.append(to_nanoseconds(message.header.stamp))
        best = message.results[0].class_id if message.results else ""
        self.record.classes.append(int(best) if best.isdecimal() else -1)

    def _on_latency(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        age_ms = next((v.value for v in status.values if v.key == "age (ms)"), None)
        if status.message == "published" and age_ms is not None:
            self.record.aged_stamps_ns.append(to_nanoseconds(message.header.stamp))
            self.record.ages_ms.append(float(age_ms))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now_ns, prefix = time.time_ns(), f"{self._target}: "
        own = [row for row in message.status if row.name.startswith(prefix)]
        for row in own:
            task, level = row.name.removeprefix(prefix), row.level[0]
            self.record.last_levels[task] = level
            if row.level in {row.WARN, row.ERROR}:
                self.record.alarms.append(Alarm(now_ns, task, level, row.message))
