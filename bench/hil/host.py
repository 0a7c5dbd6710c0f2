# SPDX-License-Identifier: Apache-2.0
"""The host plays the car: finds or starts the device, plays to it, takes the steps, listens."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.camera.load_sources import TYPES
from perception_node.bench.hil.camera import Playback
from perception_node.bench.hil.device import LocalDevice
from perception_node.bench.hil.graph import describe_silence
from perception_node.bench.hil.listener import DEPTH, UNREACHABLE, HilListener
from perception_node.bench.hil.record import HilRecord, StepDone
from perception_node.bench.hil.services import DeviceServices
from perception_node.config.node_config import NodeConfig
from perception_node.errors import EnvironmentLacks
from perception_node.ros.player import Player
from perception_node.ros.qos import named_qos
from perception_node.ros.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.node import Node

    from perception_node.bench.hil.camera import Write
    from perception_node.bench.hil.scenario import Scenario

POLL_S, PROGRESS_S = 0.02, 0.25
QUIET_S = 0.5  # no answer for so long: all that will come are here
ASKED = ("deadline_ms", "camera_deadlines_ms", "age_reference", "classification_qos")


class Host:
    """Runs a scenario once.

    Attributes:
        record: what has happened so far.

    """

    def __init__(
        self,
        scenario: Scenario,
        pictures: Sequence[bytes],
        write: Write = lambda *_: None,
        on_progress: Callable[[HilRecord], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            scenario: what to do.
            pictures: serialized images, shown in turn.
            write: gets each message that is sent or heard: topic, type, CDR bytes, epoch ns; from
                several threads.
            on_progress: called four times a second.

        """
        self.record = HilRecord()
        self._scenario, self._pictures = scenario, pictures
        self._write, self._on_progress = write, on_progress
        self._progress_s = 0.0
        self._local: LocalDevice | None = None

    def run(self, ros_arguments: list[str] | None = None) -> HilRecord:
        """Run it; a keyboard interrupt ends it early, and the record is not complete then.

        Raises:
            ConfigError: the device refuses a parameter.
            EnvironmentLacks: the device does not start, or never answers.

        """
        with suppress(KeyboardInterrupt):
            self._run(ros_arguments)
        return self.record

    def _run(self, ros_arguments: list[str] | None) -> None:
        scenario, record = self._scenario, self.record
        with ExitStack() as stack:
            node = stack.enter_context(open_session("perception_hil", ros_arguments))
            listener = HilListener(node, scenario.node.target, record, self._write)
            if scenario.node.is_local:
                self._local = stack.enter_context(LocalDevice(scenario, record))
            stack.enter_context(listener)
            services = DeviceServices(
                node, scenario.node.target, scenario.node.timeout_s, self._wait
            )
            camera = scenario.camera
            player = Player(node, {camera.full_topic: TYPES[camera.transport]})
            self._meet(node, listener, services, player)
            playback = Playback(scenario, self._pictures, player, record, self._write)
            stack.callback(self._note_end, playback)
            playback.thread.start()
            self._conduct(playback, services)
            self._wait_until_quiet()
            if self._local is not None:
                self._local.end()
            record.complete = True

    def _note_end(self, playback: Playback) -> None:
        playback.end()
        self.record.end_ns = min(self.record.end_ns, time.monotonic_ns())

    def _meet(
        self, node: Node, listener: HilListener, services: DeviceServices, player: Player
    ) -> None:
        """Wait until the device answers, and, if it is to be active, until it hears the camera.

        Raises:
            EnvironmentLacks: that took too long; names topics and QoS.

        """
        plan = self._scenario.node
        end_s = time.monotonic() + plan.timeout_s

        def require(what: str, condition: Callable[[], bool]) -> None:
            if not self._wait(condition, end_s - time.monotonic(), is_start=True):
                if self._local is not None:
                    what += f" (its last word: {self._local.last_words()})"
                raise EnvironmentLacks(describe_silence(node, self._scenario, what))

        require(f"no answer of {plan.target}/get_state", lambda: listener.state != UNREACHABLE)
        if plan.apply_parameters:
            services.apply_parameters(plan.parameters)
        clock = "this host's" if plan.is_local else "not compared; all times are of this host"
        self.record.device["clock"] = clock
        found = services.read_parameters(ASKED)
        own_ms: list[int] = list(found.pop("camera_deadlines_ms", ()))  # type: ignore[arg-type]
        if len(own_ms) == 1 and own_ms[0]:  # the only camera's
            found["deadline_ms"] = own_ms[0]
        self.record.device.update({name: str(value) for name, value in found.items()})
        profile = {"classification_qos": found.get("classification_qos", "default")}
        qos = named_qos(NodeConfig().with_values(profile).output.classification_qos)
        qos.depth = DEPTH
        listener.subscribe(qos)
        if self._is_to_be_active(services):
            require(f"{plan.target} did not become active", lambda: listener.state == "active")
            require(f"{plan.target} says no labels", lambda: listener.has_labels)
            require(f"{plan.target} does not hear the camera", lambda: player.has_subscribers)

    def _is_to_be_active(self, services: DeviceServices) -> bool:
        """Return whether the device is active before the first step, or will be by itself.

        Raises:
            EnvironmentLacks: it is not, and no step activates it.

        """
        plan, steps = self._scenario.node, self._scenario.steps
        if plan.is_local:
            return bool(plan.parameters.get("autostart", True))
        state = services.read_state()
        if state != "active" and not any(step.do == "activate" for step in steps):
            msg = f"{plan.target} is {state}; activate it, or add steps that do"
            raise EnvironmentLacks(msg)
        return state == "active"

    def _conduct(self, playback: Playback, services: DeviceServices) -> None:
        """Take the steps, each at its time, until the camera has ended."""
        for step in self._scenario.steps:
            due_ns = self.record.begin_ns + int(step.at_s * SECOND_NS)
            self._wait(lambda due_ns=due_ns: time.monotonic_ns() >= due_ns, step.at_s + 1.0)  # type: ignore[misc]
            self._take(step.do, services)
        while playback.thread.is_alive():
            self._pause()

    def _take(self, what: str, services: DeviceServices) -> None:
        begin_ns = time.monotonic_ns()
        if what == "kill":
            problem = self._local.kill() if self._local is not None else "not our process"
        else:
            problem = services.change(what)
        seconds = (time.monotonic_ns() - begin_ns) / SECOND_NS
        self.record.steps.append(StepDone(begin_ns, what, seconds, problem))

    def _wait_until_quiet(self) -> None:
        heard, since_s = -1, time.monotonic()
        while time.monotonic() - since_s < QUIET_S:
            if heard != len(self.record.answers):
                heard, since_s = len(self.record.answers), time.monotonic()
            self._pause()

    def _wait(
        self, condition: Callable[[], bool], timeout_s: float, *, is_start: bool = False
    ) -> bool:
        """Wait for a condition; return whether it holds in time."""
        end_s = time.monotonic() + timeout_s
        while not (holds := condition()) and time.monotonic() < end_s:
            self._pause(is_start=is_start)
        return holds

    def _pause(self, *, is_start: bool = False) -> None:
        """Let a moment pass, and do meanwhile what is always to be done."""
        time.sleep(POLL_S)
        if self._local is not None:
            if is_start:
                self._local.require_alive()
            else:
                self._local.watch()
        if time.monotonic() - self._progress_s >= PROGRESS_S:
            self._progress_s = time.monotonic()
            self._on_progress(self.record)
