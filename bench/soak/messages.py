# SPDX-License-Identifier: Apache-2.0
"""Send a node thousands of messages that no honest peer sends, then use it as if nothing was."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.bench.hil.services import DeviceServices
from perception_node.bench.process_watch import WatchedNode
from perception_node.bench.siege.messages import Deaf, MessageFuzzer
from perception_node.bench.soak.camera import read_camera
from perception_node.bench.soak.limits import Row
from perception_node.bench.soak.log import is_balanced, read_account
from perception_node.config.node_config import ALL_PARAMETERS
from perception_node.config.parameter import When
from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.ros.listener import Listener, Result
from perception_node.ros.player import Player
from perception_node.ros.rehearsal import NODE, START_TIMEOUT_S, TYPES
from perception_node.ros.session import open_session
from perception_node.wire.bags import BagMessage
from perception_node.wire.images import peek_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.config.parameter import Value

POLL_S, AGAIN_S = 0.02, 0.5
TIMEOUT_S = 30.0
MAX_GROWTH_MIB = 100.0  # a heap of malloc's, which it keeps
MAX_GROWTH_MIB_PER_MESSAGE = 0.02  # in rclpy and DDS, by requests with lists
TOPIC = "image"
PARAMETERS: dict[str, Value] = {
    "autostart": True,
    "age_reference": "arrival",  # the picture carries the stamp of its bag
    "deadline_ms": 5000,
    "engine_timeout_ms": 5000,  # a busy machine is no lost engine
}


@dataclass
class MessageTrial:
    """One node, attacked and then judged.

    Attributes:
        count: messages.
        seed: of their content.
        parameters: further parameters of the node.
        command: what starts the node, without ROS arguments; empty for the node as it is.

    """

    count: int
    seed: int = 1
    parameters: dict[str, Value] = field(default_factory=dict)
    command: Sequence[str] = ()
    _stamps_ns: list[int] = field(default_factory=list)

    def run(self) -> list[Row]:
        """Attack and judge.

        Raises:
            EnvironmentLacks: the node does not start, or the middleware is not Fast DDS.

        """
        parameters = {**PARAMETERS, **self.parameters}
        with (
            open_session("perception_messages") as node,
            WatchedNode(parameters, command=self.command) as process,
            Listener(node, NODE, self._on_result),
        ):
            player = Player(node, {TOPIC: TYPES["raw"]})
            services = DeviceServices(node, NODE, TIMEOUT_S, _wait_for)
            self._require_ready(process, player)
            before = services.read_parameters(_settable())
            calm = process.sample()
            problem = ""
            with MessageFuzzer(node.context, NODE, self.seed) as fuzzer:
                try:
                    fuzzer.send(self.count)
                    _restore(services, before)
                except (Deaf, EnvironmentLacks, ConfigError) as error:
                    problem = str(error)
            answers = not problem and self._answers_a_frame(player)
            after = process.sample()
            exit_code = process.end()
            log = process.log()
        account = read_account(log)
        growth_mib = after.own_mib - calm.own_mib if calm and after else math.inf
        found = ", ".join(f"{name} {number}" for name, number in account.items() if number)
        most_mib = MAX_GROWTH_MIB + MAX_GROWTH_MIB_PER_MESSAGE * self.count
        bugs = sum("Traceback" in line for line in log)
        return [
            Row("hostile messages", str(sum(fuzzer.sent.values())), str(self.count), not problem),
            Row("answers between them", problem or str(fuzzer.answers), "all", not problem),
            Row("next frame classified", "yes" if answers else "no", "yes", answers),
            Row(
                "growth by messages, MiB",
                f"{growth_mib:.1f}",
                f"at most {most_mib:g}",
                growth_mib <= most_mib,
            ),
            Row("account after messages", found or "none", "exact", is_balanced(account)),
            Row("tracebacks after messages", str(bugs), "0", bugs == 0),
            Row("exit code after messages", str(exit_code), "0", exit_code == 0),
        ]

    def _require_ready(self, process: WatchedNode, player: Player) -> None:
        def is_ready() -> bool:
            process.require_alive()
            return player.has_subscribers

        if not _wait_for(is_ready, START_TIMEOUT_S):
            last = (process.log() or ["it logged nothing"])[-1]
            msg = f"the node did not become active in {START_TIMEOUT_S:.0f} s: {last}"
            raise EnvironmentLacks(msg)

    def _answers_a_frame(self, player: Player) -> bool:
        """Return whether a frame is classified; it is sent again: the first may be lost."""
        message = BagMessage(TOPIC, TYPES["raw"], 0, read_camera("raw")[0])
        stamp_ns = peek_header(message.data).stamp_ns
        self._stamps_ns.clear()
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            player.play([message], 1.0, threading.Event())
            if _wait_for(lambda: stamp_ns in self._stamps_ns, AGAIN_S):
                return True
        return False

    def _on_result(self, result: Result) -> None:
        self._stamps_ns.append(result.stamp_ns)


def _settable() -> list[str]:
    names = [p.name for p in ALL_PARAMETERS.values() if p.when != When.START]
    return [*names, "use_sim_time"]


def _restore(services: DeviceServices, parameters: dict[str, Value]) -> None:
    """Make the node active, with its parameters as they were."""
    if not _wait_for(lambda: services.read_state() != "configuring", TIMEOUT_S):
        msg = "the node does not stop configuring"
        raise EnvironmentLacks(msg)
    services.apply_parameters(parameters)


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until ``condition`` holds; return whether it did in time."""
    end_s = time.monotonic() + timeout_s
    while not (holds := condition()) and time.monotonic() < end_s:
        time.sleep(POLL_S)
    return holds
