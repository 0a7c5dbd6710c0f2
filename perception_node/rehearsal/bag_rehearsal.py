# SPDX-License-Identifier: Apache-2.0
"""A bag through DDS into the real node in its own process, watched by a subscriber."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from perception_node.rehearsal.driver import NODE, Driver
from perception_node.rehearsal.listener import DIAGNOSTICS, OVERLAYS, RESULTS, Listener
from perception_node.rehearsal.node_process import NodeProcess
from perception_node.rehearsal.player import Player
from perception_node.ros.messages import to_nanoseconds, to_statuses
from perception_node.ros.session import open_session
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, peek_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from diagnostic_msgs.msg import DiagnosticArray
    from numpy.typing import NDArray
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Classification

    from perception_node.config.parameter import Value
    from perception_node.rehearsal.heard import Result
    from perception_node.wire.bags import BagMessage

TYPES = {"raw": RAW_TYPE, "compressed": COMPRESSED_TYPE}
# The images carry the bag's stamps, and nobody publishes its /clock.
PARAMETERS: dict[str, Value] = {
    "autostart": True,
    "diagnostics_period_s": 0.2,
    "age_reference": "arrival",
    "overlay_rate_hz": 0.0,
}
LAST_RESULT_TIMEOUT_S = 2.0


@dataclass
class Rehearsal:
    """What was sent and what came back; ages are measured on this process's clock alone.

    Attributes:
        on_result: called with each result and its age, publish call to arrival, in ms.
        sent_ns: steady time of each publish call, by the image's stamp.
        ages_ms: age of each result, by the image's stamp.
        results: the results, by the image's stamp.
        pictures: overlays, uint8 BGR (height, width, 3), by the image's stamp.
        diagnostics: values of the node's last /diagnostics.
        log: lines the node logged before the first image.
        cpu_s: processor time of the node while it was played to, in seconds.
        pid: number of the node's process, while it runs.

    """

    on_result: Callable[[Result, float], None]
    sent_ns: dict[int, int] = field(default_factory=dict)
    ages_ms: dict[int, float] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    diagnostics: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    pid: int = 0
    _diagnostics_heard: int = 0

    def run(
        self,
        messages: Iterable[BagMessage],
        topic: str,
        rate: float = 1.0,
        parameters: dict[str, Value] | None = None,
        *,
        is_typed: bool = False,
    ) -> None:
        """Start a node, play images to it, collect the results, end the node.

        Args:
            messages: serialized images of one topic, of one size or several.
            topic: that topic; one that ends in ``/compressed`` holds compressed images.
            rate: times the recorded speed.
            parameters: further parameters of the node.
            is_typed: publish as a camera's driver does, see ``Player``.

        Raises:
            EnvironmentLacks: the node does not start, or does not find the player.

        """
        base = topic.removesuffix("/compressed")
        transport = "raw" if topic == base else "compressed"
        process = NodeProcess(
            {**PARAMETERS, "image_transport": transport, **(parameters or {})}, {"image": base}
        )
        with (
            open_session("perception_rehearsal") as node,
            Driver(process) as driver,
            Listener(node) as listener,
        ):
            self.pid = process.pid
            self._listen(listener)
            player = Player(node, {topic: TYPES[transport]}, is_typed=is_typed)
            driver.wait_until_ready(listener, player)
            driver.may_end = True
            self.log = process.log()
            cpu_s = process.cpu_s()
            player.play(messages, rate, threading.Event(), self._before_publish)
            driver.wait(lambda: len(self.results) == len(self.sent_ns), LAST_RESULT_TIMEOUT_S)
            with suppress(OSError):  # it has ended, which the results show
                self.cpu_s = process.cpu_s() - cpu_s
            # The one under way may have been filled before the last result.
            news = self._diagnostics_heard + 2
            driver.wait(lambda: self._diagnostics_heard >= news, LAST_RESULT_TIMEOUT_S)

    def _listen(self, listener: Listener) -> None:
        def on_result(message: Classification, received_ns: int) -> None:
            self._on_result(listener.to_result(NODE, message, received_ns))

        notes = {
            RESULTS: on_result,
            OVERLAYS: self._on_overlay,
            DIAGNOSTICS: self._on_diagnostics,
        }
        listener.subscribe(NODE, notes)

    def _before_publish(self, message: BagMessage) -> None:
        self.sent_ns[peek_header(message.data).stamp_ns] = time.monotonic_ns()

    def _on_result(self, result: Result) -> None:
        age_ms = (result.received_ns - self.sent_ns[result.stamp_ns]) / 1e6
        self.ages_ms[result.stamp_ns] = age_ms
        self.results[result.stamp_ns] = result
        self.on_result(result, age_ms)

    def _on_overlay(self, message: Image, _received_ns: int) -> None:
        pixels = np.frombuffer(message.data, np.uint8)
        picture = pixels.reshape(message.height, message.width, 3)
        self.pictures[to_nanoseconds(message.header.stamp)] = picture

    def _on_diagnostics(self, message: DiagnosticArray, _received_ns: int) -> None:
        for status in to_statuses(message, f"{NODE[1:]}: "):
            self.diagnostics |= status.values
        self._diagnostics_heard += 1
