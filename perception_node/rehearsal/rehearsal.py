# SPDX-License-Identifier: Apache-2.0
"""A bag through DDS into the real node in its own process, watched by a subscriber."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.listener import Listener, Result
from perception_node.rehearsal.node_process import NodeProcess
from perception_node.rehearsal.player import Player
from perception_node.ros.session import open_session
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, peek_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.config.parameter import Value
    from perception_node.wire.bags import BagMessage

NODE = "/perception"
TYPES = {"raw": RAW_TYPE, "compressed": COMPRESSED_TYPE}
# The images carry the bag's stamps, and nobody publishes its /clock.
PARAMETERS: dict[str, Value] = {
    "autostart": True,
    "diagnostics_period_s": 0.2,
    "age_reference": "arrival",
    "overlay_rate_hz": 0.0,
}
START_TIMEOUT_S = 30.0
LAST_RESULT_TIMEOUT_S = 2.0
POLL_S = 0.02


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
        parameters = {**PARAMETERS, "image_transport": transport, **(parameters or {})}
        with (
            open_session("perception_rehearsal") as node,
            NodeProcess(parameters, {"image": base}) as process,
            Listener(node, NODE, self._on_result) as listener,
        ):
            self.pid = process.pid
            player = Player(node, {topic: TYPES[transport]}, is_typed=is_typed)
            self._wait_until_ready(process, listener, player)
            self.log = process.log()
            cpu_s = process.cpu_s()
            player.play(messages, rate, threading.Event(), self._before_publish)
            _wait_for(lambda: len(self.results) == len(self.sent_ns), LAST_RESULT_TIMEOUT_S)
            self.cpu_s = process.cpu_s() - cpu_s
            # The one under way may have been filled before the last result.
            news = listener.diagnostics_received + 2
            _wait_for(lambda: listener.diagnostics_received >= news, LAST_RESULT_TIMEOUT_S)
            self.diagnostics, self.pictures = listener.diagnostics, listener.pictures

    def _wait_until_ready(self, process: NodeProcess, listener: Listener, player: Player) -> None:
        def is_ready() -> bool:
            process.require_alive()
            return listener.has_labels and player.has_subscribers

        if not _wait_for(is_ready, START_TIMEOUT_S):
            last = (process.log() or ["it logged nothing"])[-1]
            msg = f"the node did not become active in {START_TIMEOUT_S:.0f} s: {last}"
            raise EnvironmentLacks(msg)

    def _before_publish(self, message: BagMessage) -> None:
        self.sent_ns[peek_header(message.data).stamp_ns] = time.monotonic_ns()

    def _on_result(self, result: Result) -> None:
        age_ms = (result.received_ns - self.sent_ns[result.stamp_ns]) / 1e6
        self.ages_ms[result.stamp_ns] = age_ms
        self.results[result.stamp_ns] = result
        self.on_result(result, age_ms)


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until ``condition`` holds; return whether it did in time."""
    end_s = time.monotonic() + timeout_s
    while not (holds := condition()) and time.monotonic() < end_s:
        time.sleep(POLL_S)
    return holds
