# SPDX-License-Identifier: Apache-2.0
"""What there is to attack: a node for raw images, one for compressed ones, the HTTP server."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import rclpy
from rclpy.qos import QoSProfile

from perception_node.bench.camera.load_sources import TYPES
from perception_node.bench.hil.services import WAY_UP, DeviceServices
from perception_node.bench.page_viewer import PageServer
from perception_node.bench.siege.asking import Client, Hearing, SiegeCamera
from perception_node.bench.siege.images import make_bombs
from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.config.parameter import When
from perception_node.errors import PerceptionError
from perception_node.rehearsal.driver import Driver
from perception_node.rehearsal.node_process import NodeProcess, Program
from perception_node.rehearsal.player import DEPTH, import_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from rclpy.node import Node

    from perception_node.bench.siege.pictures import Picture
    from perception_node.bench.siege.record import Phase, Subject
    from perception_node.config.parameter import Value

DEADLINE_MS = 250
TRANSPORTS = ("raw", "compressed")
# As docs/http.md has it for a small robot: whole bodies are in memory, several for each thread.
SERVER_ARGUMENTS = ("--max-body-mib", "2", "--queue", "8", "--viewers", "4")
START_TIMEOUT_S, BRING_UP_S, ANSWER_S = 60.0, 30.0, 5.0
LEFT_UP = {"unconfigured": WAY_UP, "inactive": WAY_UP[1:]}


@dataclass
class NodeTarget:
    """A node, its camera and who listens to it.

    Attributes:
        name: full name of the node.
        transport: of its camera: raw or compressed.
        topic: of the images.
        ros: our own node, which talks to it.
        program: its process.
        listener: hears all it says.
        camera: sends good pictures all the time.
        services: asks for transitions and parameters.

    """

    name: str
    transport: str
    topic: str
    ros: Node
    program: Program
    listener: Hearing
    camera: SiegeCamera
    services: DeviceServices

    @property
    def label(self) -> str:
        """What the table calls it."""
        return f"node {self.name}"

    def bring_up(self) -> None:
        """Configure and activate it, from whatever state; if it cannot be, it is silent."""
        end_s = time.monotonic() + BRING_UP_S
        while time.monotonic() < end_s and (state := self.services.read_state()) != "active":
            for step in LEFT_UP.get(state or "silent", ()):
                if self.services.change(step):
                    break

    def reset(self) -> None:
        """Set its parameters as they were; one that refuses is judged by what it does."""
        usual = {"image_transport": self.transport, "deadline_ms": DEADLINE_MS}
        values = NodeConfig().with_values(usual).values()
        may_change = {n: v for n, v in values.items() if ALL_PARAMETERS[n].when != When.START}
        with suppress(PerceptionError):
            self.services.apply_parameters({**may_change, "use_sim_time": False})

    def fill(self, subject: Subject, unjudged: Sequence[Phase]) -> None:
        """Say what it has answered; labels and ages do not count in the phases ``unjudged``."""
        record, camera = self.listener, self.camera
        self._judge_answers(subject, unjudged)
        for stamp_ns, age_ms in zip(record.aged_stamps_ns, record.ages_ms, strict=False):
            if stamp_ns in camera.sent and not _is_in(stamp_ns, unjudged):
                subject.ages_ms.append(age_ms)
        subject.held_up, subject.deadline_ms = camera.held_up, DEADLINE_MS
        subject.frames, subject.published = True, len(record.stamps_ns)

    def _judge_answers(self, subject: Subject, unjudged: Sequence[Phase]) -> None:
        record, camera = self.listener, self.camera
        answered: set[int] = set()
        for stamp_ns, time_ns, found in zip(
            record.stamps_ns, record.arrivals_ns, record.classes, strict=False
        ):
            number = camera.sent.get(stamp_ns)
            if stamp_ns in camera.spoilt:
                subject.wrong[f"to a damaged picture ({camera.spoilt[stamp_ns]})"] += 1
            elif number is None:
                continue  # of somebody else
            elif stamp_ns in answered:
                subject.wrong["twice"] += 1
            elif found == camera.pictures[number].class_id:
                subject.answers_ns.append(time_ns)
                answered.add(stamp_ns)
            elif not _is_in(time_ns, unjudged):
                subject.wrong["with another label"] += 1


@dataclass
class ServerTarget:
    """The HTTP server, and who posts pictures to it.

    Attributes:
        host: its address.
        port: its port.
        program: its process.
        client: posts good pictures all the time.

    """

    host: str
    port: int
    program: PageServer
    client: Client
    label = "server"

    def fill(self, subject: Subject, _unjudged: Sequence[Phase]) -> None:
        """Say what it has answered."""
        subject.answers_ns, subject.wrong = self.client.answers_ns, self.client.wrong
        subject.held_up = self.client.held_up


@dataclass
class Scene:
    """All that may be attacked.

    Attributes:
        driver: it runs all of them.
        nodes: one for raw images, one for compressed ones.
        server: it watches the first node.
        pictures: the good ones.
        bombs: small files that ask for much memory or time, by what they are.
        bundle: the folder of the model that the nodes load; a copy, which may be spoilt.
        accepted: what was accepted though it must not be, in words.

    """

    driver: Driver
    nodes: list[NodeTarget]
    server: ServerTarget
    pictures: Sequence[Picture]
    bombs: Mapping[str, bytes]
    bundle: Path
    accepted: list[str]

    @property
    def targets(self) -> list[NodeTarget | ServerTarget]:
        """All of them."""
        return [*self.nodes, self.server]

    def wait_until_quiet(self) -> None:
        """Wait until no more results come."""
        self.driver.wait_until_quiet(lambda: sum(len(n.listener.stamps_ns) for n in self.nodes))

    def reset(self) -> None:
        """Set the parameters of every node as they were."""
        for node in self.nodes:
            node.reset()

    def bring_up(self) -> None:
        """Configure and activate every node; what cannot be is silent from now on, and judged."""
        for node in self.nodes:
            node.bring_up()


def _is_in(time_ns: int, phases: Sequence[Phase]) -> bool:
    return any(phase.begin_ns <= time_ns <= phase.end_ns for phase in phases)


def parameters(transport: str, bundle: Path) -> dict[str, Value]:
    """Return the parameters of a node; all that matter under attack are as they come."""
    return {
        "autostart": True,
        "model": str(bundle),
        "image_transport": transport,
        "deadline_ms": DEADLINE_MS,
    }


def build_scene(
    stack: ExitStack,
    pictures: Sequence[Picture],
    bundle: Path,
    is_stopped: Callable[[], bool],
    command: Sequence[str] = (),
) -> Scene:
    """Start everything and wait until each good picture is answered.

    Args:
        stack: ends it all; ROS is initialised.
        pictures: the good ones.
        bundle: the folder of the model.
        is_stopped: whether its answer is no longer waited for.
        command: what starts a node, without ROS arguments; empty for the node as it is.

    Raises:
        EnvironmentLacks: something does not start.

    """
    programs = [NodeProcess(parameters(t, bundle), {"__ns": f"/{t}"}, command) for t in TRANSPORTS]
    page = PageServer(f"/{TRANSPORTS[0]}/perception", *SERVER_ARGUMENTS)
    driver = stack.enter_context(Driver(*programs, page))
    nodes = [
        _meet(stack, driver, program, transport, pictures)
        for program, transport in zip(programs, TRANSPORTS, strict=True)
    ]
    host, _, port = page.wait_for_address().removeprefix("http://").rpartition(":")
    client = Client(host, int(port), pictures)
    server = ServerTarget(host, int(port), page, client)
    for node in nodes:
        stack.enter_context(node.camera)
    stack.enter_context(client)

    def is_answered() -> bool:
        heard = all(node.listener.stamps_ns for node in nodes) and bool(client.answers_ns)
        return heard or is_stopped()

    driver.require(is_answered, "not all is answered", START_TIMEOUT_S)
    driver.may_end = True  # which is judged
    return Scene(driver, nodes, server, pictures, make_bombs(), bundle, [])


def _meet(
    stack: ExitStack,
    driver: Driver,
    program: Program,
    transport: str,
    pictures: Sequence[Picture],
) -> NodeTarget:
    name, topic = f"/{transport}/perception", f"/{transport}/image"
    topic += "" if transport == "raw" else "/compressed"
    ros = rclpy.create_node(f"siege_{transport}")
    stack.callback(ros.destroy_node)
    listener = Hearing(ros, name)
    services = DeviceServices(ros, name, ANSWER_S, driver.wait)
    publisher = ros.create_publisher(import_type(TYPES[transport]), topic, QoSProfile(depth=DEPTH))
    stack.enter_context(listener)
    camera = SiegeCamera(publisher, pictures, transport)
    return NodeTarget(name, transport, topic, ros, program, listener, camera, services)
