# SPDX-License-Identifier: Apache-2.0
"""Note all that a device says, with times of the host's clock."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.srv import GetState
from rclpy.clock import Clock, ClockType

from perception_node.bench.hil.recorder import Age, DiagnosticChange, StateChange
from perception_node.rehearsal.listener import (
    DIAGNOSTICS,
    INFO,
    LATENCY,
    RESULTS,
    Listener,
    read_age_ms,
)
from perception_node.ros.messages import to_nanoseconds

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node
    from rclpy.qos import QoSProfile
    from vision_msgs.msg import Classification, VisionInfo

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.rehearsal.listener import Write
    from perception_node.untyped import RosObject

STATE_PERIOD_S, ASK_AGAIN_S, UNREACHABLE_S = 0.1, 1.0, 2.0
LEVELS = ("OK", "WARN", "ERROR", "STALE")
UNREACHABLE = "unreachable"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class HilListener(Listener):
    """Fills a record from entering to leaving."""

    def __init__(self, node: Node, target: str, record: HilRecord, write: Write) -> None:
        """Ask the node named ``target`` for its state again and again, from entering on.

        Args:
            node: owner of the subscriptions.
            target: full name of the device's node.
            record: gets what is heard.
            write: gets each message as it came, as a bag wants it.

        """
        super().__init__(node, write)
        self._target, self._record = target, record
        self._last_rows: dict[str, tuple[str, str]] = {}
        self._get_state = node.create_client(GetState, f"{target}/get_state")
        self._asked: Any = None
        self._asked_s, self._heard_s = 0.0, 0.0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(STATE_PERIOD_S, self._ask_state, clock=steady)

    @property
    def state(self) -> str:
        """The device's lifecycle state; ``unreachable`` before its first answer."""
        states = self._record.states
        return states[-1].state if states else UNREACHABLE

    def listen(self, results_qos: QoSProfile, *, with_ages: bool) -> None:
        """Subscribe to everything.

        Args:
            results_qos: must fit the device's classifications.
            with_ages: listen to ~/latency as well, which costs the device a part of a
                millisecond for each frame.

        """
        notes = {
            RESULTS: self._on_result,
            DIAGNOSTICS: self._on_diagnostics,
            INFO: self._on_info,
        }
        more = {LATENCY: self._on_latency} if with_ages else {}
        self.subscribe(self._target, {**notes, **more}, results_qos)

    def _on_info(self, message: VisionInfo, _received_ns: int) -> None:
        self._record.device["method"] = message.method

    def _on_result(self, message: Classification, received_ns: int) -> None:
        self._record.answers.append(self.to_result(self._target, message, received_ns))

    def _on_latency(self, message: DiagnosticArray, _received_ns: int) -> None:
        age_ms = read_age_ms(message)
        if age_ms is not None:
            self._record.ages.append(Age(to_nanoseconds(message.header.stamp), age_ms))

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

    def _on_state(self, future: RosObject) -> None:
        self._asked = None
        if future.cancelled() or future.exception() is not None:
            return
        self._heard_s = time.monotonic()
        self._note_state(str(future.result().current_state.label))

    def _note_state(self, state: str) -> None:
        states = self._record.states
        if not states or states[-1].state != state:
            states.append(StateChange(time.monotonic_ns(), state))
