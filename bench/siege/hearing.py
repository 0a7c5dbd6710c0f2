# SPDX-License-Identifier: Apache-2.0
"""What was heard of a node, in little memory; times are nanoseconds since the epoch."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from perception_node.rehearsal.listener import LATENCY, RESULTS, Listener, read_age_ms
from perception_node.ros.messages import to_nanoseconds

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node
    from vision_msgs.msg import Classification


class Hearing(Listener):
    """Hears results and ages of one node.

    Attributes:
        stamps_ns: of the results, in the order of arrival.
        arrivals_ns: when they arrived.
        classes: their best classes; -1 for none.
        aged_stamps_ns: stamps of the images that ~/latency calls published.
        ages_ms: their ages, as ~/latency states them.

    """

    def __init__(self, node: Node, target: str) -> None:
        """Subscribe with ``node`` to what the node named ``target`` says."""
        super().__init__(node)
        self.stamps_ns, self.arrivals_ns, self.classes = array("q"), array("q"), array("q")
        self.aged_stamps_ns, self.ages_ms = array("q"), array("d")
        self.subscribe(target, {RESULTS: self._on_result, LATENCY: self._on_latency})

    def _on_result(self, message: Classification, _received_ns: int) -> None:
        self.arrivals_ns.append(time.time_ns())
        self.stamps_ns.append(to_nanoseconds(message.header.stamp))
        best = message.results[0].class_id if message.results else ""
        self.classes.append(int(best) if best.isdecimal() else -1)

    def _on_latency(self, message: DiagnosticArray, _received_ns: int) -> None:
        age_ms = read_age_ms(message)
        if age_ms is not None:
            self.aged_stamps_ns.append(to_nanoseconds(message.header.stamp))
            self.ages_ms.append(age_ms)
