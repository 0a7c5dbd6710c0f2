# SPDX-License-Identifier: Apache-2.0
"""Real nodes, in processes of their own or in this one, and a peer that talks to them over DDS."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification, LabelInfo

from perception_node.rehearsal.domain import PRIVATE_DOMAINS
from perception_node.rehearsal.domain import claim_domain as claim_free_domain
from perception_node.rehearsal.node_process import to_argument
from perception_node.ros.compat import TELLS_MATCHES
from perception_node.ros.node import PerceptionNode
from perception_node.ros.qos import LATCHED
from perception_node.ros.spinning import SpinningThread

DEADLINE_S = 30.0
IS_NUMBERED = TELLS_MATCHES  # Humble does neither
needs_numbers = pytest.mark.skipif(not IS_NUMBERED, reason="rclpy does not number images")
POLL_S = 0.01
ASK_AGAIN_S = 3.0
STRAGGLERS_S = 0.5
NANOSECONDS = 1_000_000_000
NODE = "/perception"
# The stamps of most tests are small numbers, by which frames are told apart.
PARAMETERS = {"age_reference": "arrival", "deadline_ms": 5000}
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
}
# Shutting down is another transition from every state.
SHUTDOWN = {
    "unconfigured": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    "inactive": Transition.TRANSITION_INACTIVE_SHUTDOWN,
    "active": Transition.TRANSITION_ACTIVE_SHUTDOWN,
}
STATES = {
    State.PRIMARY_STATE_UNCONFIGURED: "unconfigured",
    State.TRANSITION_STATE_CONFIGURING: "configuring",
    State.PRIMARY_STATE_INACTIVE: "inactive",
    State.PRIMARY_STATE_ACTIVE: "active",
    State.PRIMARY_STATE_FINALIZED: "finalized",
}
COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "orange": (255, 128, 0),
}
ACCOUNT = re.compile(
    r"frames(?: of (?P<topic>\S+))?: received (?P<received>\d+) = published (?P<published>\d+) "
    r"\+ superseded (?P<superseded>\d+) \+ stale (?P<stale>\d+) \+ late (?P<late>\d+) "
    r"\+ malformed (?P<malformed>\d+)(?: \((?P<kinds>[^)]*)\))? "
    r"\+ failed (?P<failed>\d+) \+ in flight (?P<in_flight>\d+)"
    r"(?:; received and superseded are at least these: (?P<doubt>.*))?"
)
ROS_LINE = re.compile(r"\[(DEBUG|INFO|WARN|ERROR|FATAL)\] \[")
MOST_RESULTS = 10_000
EVERY_RESULT = {"qos_overrides./perception/classification.publisher.depth": MOST_RESULTS}
_domains = itertools.cycle(random.sample(PRIVATE_DOMAINS, len(PRIVATE_DOMAINS)))


@contextmanager
def claim_domain():
    """Yield a ROS domain that nothing on this machine uses, and this run has not used lately."""
    number, claim = claim_free_domain(next(_domains) for _ in PRIVATE_DOMAINS)
    with claim:
        yield number


def wait_for(condition, what, timeout_s=DEADLINE_S):
    """Return the first true value of ``condition``; fail the test if there is none in time."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"not within {timeout_s} s: {what()}"
        time.sleep(POLL_S)
    return value


def stamp_of(message) -> int:
    """Return a message's stamp in nanoseconds."""
    return message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec


def make_image(color="red", stamp_ns=0, *, size=(32, 24), encoding="rgb8", **fields) -> Image:
    """Make an image of one colour, ``size`` is (width, height); ``fields`` replace its own."""
    width, height = size
    pixel = COLORS[color][:: -1 if encoding == "bgr8" else 1]
    data = np.full((height, width, 3), pixel, np.uint8).tobytes()
    message = Image(height=height, width=width, encoding=encoding, step=width * 3)
    message.data.frombytes(data)
    set_header(message, stamp_ns)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def make_compressed(data: bytes, stamp_ns=0) -> CompressedImage:
    """Make a compressed image of any bytes."""
    message = CompressedImage(format="jpeg")
    message.data.frombytes(data)
    set_header(message, stamp_ns)
    return message


def serialize(message) -> bytes:
    """Return the bytes that a message travels in."""
    return bytes(serialize_message(message))


def set_header(message, stamp_ns, frame_id="camera_optical_frame") -> None:
    """Fill the header of a message."""
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NANOSECONDS)


def account(text: str, topic: str | None = None) -> dict[str, Any]:
    """Return the node's last account of its frames from its log; of one camera of several."""
    found = [match for match in ACCOUNT.finditer(text) if match["topic"] == topic]
    assert found, f"no account of the frames in the log:\n{text}"
    words = ("kinds", "topic", "doubt")
    counts = {k: int(v) for k, v in found[-1].groupdict().items() if k not in words}
    kinds = found[-1]["kinds"] or ""
    pairs = (pair.rsplit(" ", 1) for pair in kinds.split(", ") if pair)
    doubt = found[-1]["doubt"] or ""
    return {**counts, "doubt": doubt, "kinds": {kind: int(number) for kind, number in pairs}}


def require_balance(counts: dict[str, Any]) -> None:
    """Every frame that was received went exactly one way."""
    ways = ("published", "superseded", "stale", "late", "malformed", "failed")
    assert counts["received"] == sum(counts[way] for way in ways)
    assert counts["in_flight"] == 0
    assert sum(counts["kinds"].values()) == counts["malformed"]


class Program:
    """A Python program in a process of its own, with its output in a file."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str | None],
        ending: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Prepare to run a command that ``ending`` ends.

        A variable that is None is taken out of the environment.
        """
        self._command = command
        self._ending = ending
        merged = {**os.environ, **environment}
        self._environment = {name: value for name, value in merged.items() if value is not None}

    def __enter__(self):
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self._command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(self._ending)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with suppress(ProcessLookupError):  # it, or what it has started and left behind
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if any(exception):
            sys.stdout.write(f"--- output of {self._command}\n{self.log()}")
        self._log.close()

    def log(self) -> str:
        """Return all that the program has written so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def log_lines(self) -> list[str]:
        """Return the lines of ROS's loggers; the middleware may write others between them."""
        return [line for line in self.log().splitlines() if ROS_LINE.match(line)]

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self.process.poll() is None

    def end(self, number=signal.SIGTERM, timeout_s=DEADLINE_S) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


def start_node(domain, parameters=None, arguments=(), program=("-m", "perception_node.ros.main")):
    """Return the node as a program; ``arguments`` are further ROS arguments."""
    command = [sys.executable, *program, "--ros-args"]
    for name, value in {**PARAMETERS, **(parameters or {})}.items():
        command += ["-p", f"{name}:={to_argument(value)}"]
    return Program([*command, *arguments], {"ROS_DOMAIN_ID": str(domain)})


def start_cli(domain, *arguments):
    """Return ``perception ARGUMENTS`` as a program."""
    command = [sys.executable, "-m", "perception_node.cli", *map(str, arguments)]
    return Program(command, {"ROS_DOMAIN_ID": str(domain)})


@contextmanager
def open_context(domain: int):
    """Yield a context of its own, which ROS calls a process."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    try:
        yield context
    finally:
        context.try_shutdown()


class Peer:
    """A camera, a subscriber and a lifecycle manager: whatever a test needs on the other side."""

    def __init__(self, domain: int) -> None:
        self._clients: dict[str, Any] = {}
        self._undo = ExitStack()
        context = self._undo.enter_context(open_context(domain))
        self.node = rclpy.create_node("peer", context=context)
        self._undo.callback(self.node.destroy_node)

    def __enter__(self):
        thread = SpinningThread(self.node, "peer")
        thread.start()
        self._undo.callback(thread.stop)
        return self

    def __exit__(self, *exception):
        self._undo.close()

    def collect(self, kind, topic, qos=10, *, raw=False) -> list[Any]:
        """Subscribe and return the list that the messages go to."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, qos, raw=raw)
        return messages

    def camera(self, topic="image", kind=Image, qos=10):
        """Return a publisher once somebody has subscribed to it."""
        publisher = self.node.create_publisher(kind, topic, qos)
        wait_for(publisher.get_subscription_count, lambda: f"a subscription to {topic}")
        return publisher

    def call(self, kind, name, request=None, timeout_s=DEADLINE_S):
        """Call a service that may be asked twice, and return its answer.

        The first answer may be lost: the client has found the service, but not yet the service
        the client.
        """
        client = self._client(kind, name)

        def is_answered():
            future = client.call_async(request or kind.Request())
            end_s = time.monotonic() + ASK_AGAIN_S
            while time.monotonic() < end_s:
                if future.done():
                    return future
                time.sleep(POLL_S)
            client.remove_pending_request(future)
            return None

        return wait_for(is_answered, lambda: f"an answer of {name}", timeout_s).result()

    def _client(self, kind, name):
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        wait_for(self._clients[name].service_is_ready, lambda: f"the service {name}")
        return self._clients[name]

    def state(self, node=NODE) -> str:
        """Ask for a node's lifecycle state."""
        return STATES[self.call(GetState, f"{node}/get_state").current_state.id]

    def change(self, transition: str | int, node=NODE) -> bool:
        """Ask for a transition and return whether it succeeded."""
        self.state(node)  # by then the two have found each other; a transition is asked for once
        future = self.ask(transition, node)
        wait_for(future.done, lambda: f"an answer to {transition}")
        return future.result().success

    def ask(self, transition: str | int, node=NODE):
        """Ask for a transition and return the future of its answer, which may never come."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS.get(transition, transition)
        client = self._client(ChangeState, f"{node}/change_state")
        return client.call_async(request)

    def wait_until(self, state: str, node=NODE) -> None:
        """Wait for a lifecycle state."""
        wait_for(lambda: self.state(node) == state, lambda: f"{node} to be {state}")

    def watch(self, node=NODE) -> Diagnostics:
        """Follow the diagnostics of a node."""
        return Diagnostics(self.collect(DiagnosticArray, "/diagnostics"), node.lstrip("/"))


class Diagnostics:
    """The diagnostics that a peer has received of one node."""

    def __init__(self, messages: list[DiagnosticArray], node: str) -> None:
        self.messages = messages
        self._node = node

    def latest(self) -> dict[str, Any]:
        """Return the last message's statuses by task."""
        rows = self.messages[-1].status if self.messages else []
        return {
            status.name.removeprefix(f"{self._node}: "): status
            for status in rows
            if status.name.startswith(f"{self._node}: ")
        }

    def level(self, task: str) -> int | None:
        """Return the last level of a task: 0 OK, 1 WARN, 2 ERROR."""
        status = self.latest().get(task)
        return status and status.level[0]

    def value(self, key: str) -> str | None:
        """Return the last value of a key, in whatever task."""
        pairs = {v.key: v.value for status in self.latest().values() for v in status.values}
        return pairs.get(key)

    def wait_for_level(self, task: str, level: int):
        """Wait until a task has this level and return its status."""
        wait_for(
            lambda: self.level(task) == level,
            lambda: f"{task} at level {level}, last: {self.latest().get(task)}",
        )
        return self.latest()[task]

    def wait_for_value(self, key: str, value: object) -> None:
        """Wait until a key has a value."""
        wait_for(
            lambda: self.value(key) == str(value),
            lambda: f"{key} = {value}, last: {self.value(key)}",
        )

    def skip(self, number: int) -> None:
        """Wait for a number of further messages."""
        seen = len(self.messages)
        wait_for(lambda: len(self.messages) >= seen + number, lambda: f"{number} /diagnostics")


class Stream:
    """A camera's frames, and what the node made of them.

    The results of a burst wait for this process where all cores are busy, so there is room for
    each of them; the publisher's own room is ``EVERY_RESULT``, a parameter of the node.
    """

    def __init__(self, peer: Peer, node=NODE, topic="image", kind=Image, qos=10) -> None:
        self.results: list[Classification] = peer.collect(
            Classification, f"{node}/classification", MOST_RESULTS
        )
        self._labels = peer.collect(LabelInfo, f"{node}/label_info", LATCHED)
        self.camera = peer.camera(topic, kind, qos)

    def wait_until_heard(self) -> None:
        """Wait until no result can be lost because the node has not found the subscriber yet.

        Discovery keeps the order of subscriptions, and the labels, which are latched, came last.
        """
        wait_for(lambda: self._labels, lambda: "the labels of a node that is configured")

    def stamps(self) -> list[int]:
        """Return the stamps of the results so far, in the order of arrival."""
        return [stamp_of(result) for result in self.results]

    def result(self, stamp_ns: int) -> Classification | None:
        """Return the result of the frame with this stamp."""
        return next((r for r in list(self.results) if stamp_of(r) == stamp_ns), None)

    def classify(self, message) -> Classification:
        """Send a frame until its result is there; no result is lost, so all can be counted."""
        self.wait_until_heard()
        return self.ask(message)

    def ask(self, message) -> Classification:
        """Send a frame until its result is there; for a node that says no labels.

        The first may be lost: the camera has found the node, but not yet the node the camera.
        """
        stamp_ns, sent = stamp_of(message), 0

        def is_back() -> Classification | None:
            nonlocal sent
            self.camera.publish(message)
            sent += 1
            end_s = time.monotonic() + 0.5
            while time.monotonic() < end_s:
                if (result := self.result(stamp_ns)) is not None:
                    return result
                time.sleep(POLL_S)
            return None

        result = wait_for(is_back, lambda: f"a result for the frame with stamp {stamp_ns}")
        if sent > 1:  # the answers to others may still be on their way
            time.sleep(STRAGGLERS_S)
        return result

    def classify_once(self, message) -> Classification:
        """Send a frame once and wait for its result."""
        self.camera.publish(message)
        stamp_ns = stamp_of(message)
        return wait_for(lambda: self.result(stamp_ns), lambda: f"a result for stamp {stamp_ns}")


@contextmanager
def local_node(domain: int, **parameters):
    """Yield the node in this process, spun by a thread of its own."""
    given = {**PARAMETERS, **parameters}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with open_context(domain) as context, ExitStack() as undo:
        node = PerceptionNode(context=context, parameter_overrides=overrides)
        undo.callback(node.destroy_node)
        undo.callback(node.release)
        thread = SpinningThread(node, "local")
        thread.start()
        undo.callback(thread.stop)
        yield node
