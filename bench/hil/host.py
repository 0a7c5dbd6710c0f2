# SPDX-License-Identifier: Apache-2.0
"""The host plays the car: finds or starts the device, plays to it, takes the steps, listens."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.camera.load_sources import TYPES
from perception_node.bench.hil.camera import Playback
from perception_node.bench.hil.listener import UNREACHABLE, HilListener
from perception_node.bench.hil.recorder import HilRecord, StepDone
from perception_node.bench.hil.services import DeviceServices
from perception_node.bench.process_watch import look_at
from perception_node.config.node_config import NodeConfig
from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.rehearsal.driver import NODE, Driver
from perception_node.rehearsal.graph import describe_environment, describe_topics
from perception_node.rehearsal.listener import DEPTH
from perception_node.rehearsal.node_process import NodeProcess
from perception_node.rehearsal.player import Player
from perception_node.ros.qos import named_qos
from perception_node.ros.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.node import Node

    from perception_node.bench.hil.scenario import Scenario
    from perception_node.config.parameter import Value
    from perception_node.rehearsal.listener import Write

PROGRESS_S, SAMPLE_S = 0.25, 1.0
PYTHON = "python3"  # in a scenario: the interpreter that runs this command
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
        self._progress_s = self._sample_s = 0.0
        self._process = _describe_process(scenario) if scenario.node.is_local else None
        programs = [] if self._process is None else [self._process]
        self._driver = Driver(
            *programs, respawn=scenario.node.respawn, meanwhile=self._do_meanwhile
        )

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
        scenario, record, driver = self._scenario, self.record, self._driver
        target, camera = scenario.node.target, scenario.camera
        with ExitStack() as stack:
            node = stack.enter_context(open_session("perception_hil", ros_arguments))
            listener = HilListener(node, target, record, self._write)
            stack.callback(self._note_process)
            self._start(stack)
            stack.enter_context(listener)
            services = DeviceServices(node, target, scenario.node.timeout_s, driver.wait)
            player = Player(node, {camera.full_topic: TYPES[camera.transport]})
            self._meet(node, listener, services, player)
            driver.may_end = True
            playback = Playback(scenario, self._pictures, player, record, self._write)
            stack.callback(self._note_end, playback)
            playback.thread.start()
            self._conduct(playback, services)
            driver.wait_until_quiet(lambda: len(record.answers))
            record.exit_code = driver.end()
            record.complete = True

    def _start(self, stack: ExitStack) -> None:
        try:
            stack.enter_context(self._driver)
        except ConfigError as error:
            raise ConfigError(f"node.command: {error}") from error

    def _note_process(self) -> None:
        self.record.unexpected_ends = self._driver.unexpected_ends
        self.record.log = [] if self._process is None else self._process.log()

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
        topics = (self._scenario.camera.full_topic, f"{plan.target}/classification")

        def explain() -> str:
            return f"{describe_topics(node, topics)}; {describe_environment()}"

        def require(problem: str, condition: Callable[[], bool]) -> None:
            self._driver.require(condition, problem, plan.timeout_s, explain)

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
        listener.listen(qos, with_ages=self._scenario.expect.needs_ages)
        if self._is_to_be_active(services):
            require(f"{plan.target} did not become active", lambda: listener.state == "active")
            require(f"{plan.target} says no labels", lambda: listener.is_matched)
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
            self._driver.wait(lambda due_ns=due_ns: time.monotonic_ns() >= due_ns)  # type: ignore[misc]
            self._take(step.do, services)
        self._driver.wait(lambda: not playback.thread.is_alive())

    def _take(self, what: str, services: DeviceServices) -> None:
        begin_ns = time.monotonic_ns()
        problem = self._driver.kill() if what == "kill" else services.change(what)
        seconds = (time.monotonic_ns() - begin_ns) / SECOND_NS
        self.record.steps.append(StepDone(begin_ns, what, seconds, problem))

    def _do_meanwhile(self) -> None:
        """Do what is always to be done while something is waited for."""
        now_s, record, process = time.monotonic(), self.record, self._process
        if now_s - self._progress_s >= PROGRESS_S:
            self._progress_s = now_s
            self._on_progress(record)
        is_due = self._scenario.expect.leaks is not None and now_s - self._sample_s >= SAMPLE_S
        if is_due and process is not None and record.begin_ns and not record.complete:
            self._sample_s = now_s
            sample = look_at(process.pid)
            record.samples += [] if sample is None else [sample]


def _describe_process(scenario: Scenario) -> NodeProcess:
    """Describe the node where this host starts it."""
    node, camera = scenario.node, scenario.camera
    parameters: dict[str, Value] = {
        "autostart": True,
        "image_transport": camera.transport,
        **node.parameters,
    }
    namespace, _, name = node.target.rpartition("/")
    remaps = {"image": "/" + camera.topic.lstrip("/")}
    if node.target != NODE:
        remaps |= {"__node": name, "__ns": namespace or "/"}
    is_ours = node.command[:1] == (PYTHON,)
    command = (sys.executable, *node.command[1:]) if is_ours else node.command
    return NodeProcess(parameters, remaps, command)
