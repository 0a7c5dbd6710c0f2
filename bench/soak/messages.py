# SPDX-License-Identifier: Apache-2.0
"""Send a node thousands of messages that no honest peer sends, then use it as if nothing was."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.check import Check, at_most
from perception_node.bench.hil.services import DeviceServices
from perception_node.bench.node_log import judge_account, judge_tracebacks, read_account
from perception_node.bench.process_watch import look_at
from perception_node.bench.siege.messages import Deaf, MessageFuzzer
from perception_node.config.node_config import ALL_PARAMETERS
from perception_node.config.parameter import When
from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.rehearsal.bag_rehearsal import TYPES
from perception_node.rehearsal.driver import NODE, Driver
from perception_node.rehearsal.listener import RESULTS, Listener
from perception_node.rehearsal.node_process import NodeProcess
from perception_node.rehearsal.player import Player
from perception_node.ros.messages import to_nanoseconds
from perception_node.ros.session import open_session
from perception_node.wire.bags import BagMessage
from perception_node.wire.images import peek_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vision_msgs.msg import Classification

    from perception_node.config.parameter import Value

AGAIN_S = 0.5
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

    def run(self) -> list[Check]:
        """Attack and judge.

        Raises:
            EnvironmentLacks: the node does not start, or the middleware is not Fast DDS.

        """
        process = NodeProcess({**PARAMETERS, **self.parameters}, command=self.command)
        with (
            open_session("perception_messages") as node,
            Driver(process) as driver,
            Listener(node) as listener,
        ):
            listener.subscribe(NODE, {RESULTS: self._on_result})
            player = Player(node, {TOPIC: TYPES["raw"]})
            services = DeviceServices(node, NODE, TIMEOUT_S, driver.wait)
            driver.wait_until_ready(listener, player)
            driver.may_end = True
            before = services.read_parameters(_settable())
            calm = look_at(process.pid)
            problem = ""
            with MessageFuzzer(node.context, NODE, self.seed) as fuzzer:
                try:
                    fuzzer.send(self.count)
                    _restore(driver, services, before)
                except (Deaf, EnvironmentLacks, ConfigError) as error:
                    problem = str(error)
            answers = not problem and self._answers_a_frame(driver, player)
            after = look_at(process.pid)
            exit_code = process.end()
        growth_mib = after.own_mib - calm.own_mib if calm and after else math.inf
        most_mib = MAX_GROWTH_MIB + MAX_GROWTH_MIB_PER_MESSAGE * self.count
        return [
            Check("hostile messages", str(fuzzer.sent.total()), str(self.count), not problem),
            Check("answers between them", problem or str(fuzzer.answers), "all", not problem),
            Check("next frame classified", "yes" if answers else "no", "yes", answers),
            at_most("growth by messages, MiB", growth_mib, most_mib),
            judge_account("account after messages", read_account(process.log())),
            judge_tracebacks("tracebacks after messages", process.log()),
            Check("exit code after messages", str(exit_code), "0", exit_code == 0),
        ]

    def _answers_a_frame(self, driver: Driver, player: Player) -> bool:
        """Return whether a frame is classified; it is sent again: the first may be lost."""
        message = BagMessage(TOPIC, TYPES["raw"], 0, bytes(make_messages(Load())[0]))
        stamp_ns = peek_header(message.data).stamp_ns
        self._stamps_ns.clear()
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            player.play([message], 1.0, threading.Event())
            if driver.wait(lambda: stamp_ns in self._stamps_ns, AGAIN_S):
                return True
        return False

    def _on_result(self, message: Classification, _received_ns: int) -> None:
        self._stamps_ns.append(to_nanoseconds(message.header.stamp))


def _settable() -> list[str]:
    names = [p.name for p in ALL_PARAMETERS.values() if p.when != When.START]
    return [*names, "use_sim_time"]


def _restore(driver: Driver, services: DeviceServices, parameters: dict[str, Value]) -> None:
    """Make the node active, with its parameters as they were."""
    if not driver.wait(lambda: services.read_state() != "configuring", TIMEOUT_S):
        msg = "the node does not stop configuring"
        raise EnvironmentLacks(msg)
    services.apply_parameters(parameters)
