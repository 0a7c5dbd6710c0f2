# SPDX-License-Identifier: Apache-2.0
"""Publish /diagnostics on a steady clock, so that it goes on while simulated time stands still."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType

from perception_node.ros.messages import to_diagnostics, to_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

    from perception_node.flow.health import Status


class DiagnosticsPublisher:
    """Asks for the node's statuses once a period and publishes them."""

    def __init__(self, node: Node, period_s: float, collect: Callable[[], list[Status]]) -> None:
        self._node = node
        self._collect = collect
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self._publish, clock=steady)

    def _publish(self) -> None:
        header = to_header(self._node.get_clock().now().nanoseconds, "")
        self._publisher.publish(
            to_diagnostics(header, self._name, socket.gethostname(), self._collect())
        )
