# SPDX-License-Identifier: Apache-2.0
"""Send a node what no honest peer sends: every service, topic and field, whole and damaged.

Nothing that comes from the graph may end a node, or make it deaf::

    with MessageFuzzer(context, "/perception", seed=1) as fuzzer:
        fuzzer.send(500)
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import NodeNameNonExistentError
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock

from perception_node.bench.siege.random_messages import damage, fill, find_type
from perception_node.bench.siege.raw_writer import RawWriter
from perception_node.errors import EnvironmentLacks
from perception_node.ros.compat import RCLError, make_raw_sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node
    from rclpy.publisher import Publisher

CLOCK_TOPIC = "/clock"
LEAST_SERVICES = 11  # six of parameters, five of the lifecycle
FIND_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S, ASK_AGAIN_S = 15.0, 2.0
POLL_S = 0.02
BETWEEN_QUESTIONS = 8  # messages; fewer than any queue on the way is deep
DAMAGED = 0.6  # of the messages
STRANGERS = 0.02  # instead of a message: a peer whose QoS or type does not fit comes and goes
# To shut the node down on purpose is everybody's right, and the end of it.
ENDS = {
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
}


class Deaf(Exception):
    """The node does not answer any more, or is not there."""


class Target(NamedTuple):
    """What messages are sent to.

    Attributes:
        name: of the service or topic.
        kind: class of the messages.
        send: takes a serialized message.

    """

    name: str
    kind: Any
    send: Callable[[bytes], None]


class MessageFuzzer:
    """Attacks one node, from entering to leaving; used by one thread.

    What it sends is the same for the same seed and targets, but for their order of arrival. It
    asks for no shutdown of the node; every other transition may come through, every parameter may
    change: whoever wants to use the node afterwards sets both as they should be.

    Attributes:
        sent: how many messages went to each target.
        answers: how often the node was asked meanwhile, and answered.

    """

    def __init__(self, context: Context, node_name: str = "/perception", seed: int = 1) -> None:
        """Prepare to attack the node of this full name from a node of our own in ``context``."""
        self.sent: Counter[str] = Counter()
        self.answers = 0
        self._target = node_name
        self._rng = random.Random(seed)
        self._node: Node = rclpy.create_node(f"fuzzer_{seed}", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        # A participant has one type on each topic, so the other ones come from another.
        self._other_context = Context()
        domain = context.get_domain_id()
        rclpy.init(args=[], context=self._other_context, domain_id=domain)
        self._stranger = rclpy.create_node(f"stranger_{seed}", context=self._other_context)
        self._state = self._node.create_client(GetState, f"{node_name}/get_state")
        self._writers: list[RawWriter] = []
        self._targets: list[Target] = []
        self._topics: list[Target] = []  # those of them that are topics

    def __enter__(self) -> MessageFuzzer:
        """Find the node and all that it listens to.

        Raises:
            Deaf: there is no such node, or it does not answer.
            EnvironmentLacks: the middleware is not Fast DDS.

        """
        try:
            self._require_answer()
            self._find_targets()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the graph."""
        for writer in self._writers:
            writer.close()
        self._executor.shutdown()
        self._node.destroy_node()
        self._stranger.destroy_node()
        self._other_context.try_shutdown()

    def send(self, count: int) -> None:
        """Send so many messages, in random order; ask the node in between whether it answers.

        Raises:
            Deaf: it does not.

        """
        for number in range(count):
            if self._rng.random() < STRANGERS:
                self._come_and_go()
            target = self._rng.choice(self._targets)
            target.send(self._make(target))
            self.sent[target.name] += 1
            if number % BETWEEN_QUESTIONS == 0:
                self._require_answer()
        self._require_answer()

    def _make(self, target: Target) -> bytes:
        """Return a serialized message that does not end the node on purpose."""
        while True:
            content = bytes(serialize_message(fill(target.kind(), self._rng)))
            if self._rng.random() < DAMAGED:
                content = damage(content, self._rng)
            if target.kind is not ChangeState.Request or not _is_end(content):
                return content

    def _require_answer(self) -> None:
        """Wait until the node says in which state it is."""
        end_s = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < end_s:
            if not self._state.wait_for_service(timeout_sec=ASK_AGAIN_S):
                continue
            future = self._state.call_async(GetState.Request())
            self._executor.spin_until_future_complete(future, ASK_AGAIN_S)
            if future.done():
                self.answers += 1
                return
            self._state.remove_pending_request(future)
        msg = f"{self._target} did not answer in {ANSWER_TIMEOUT_S:g} s after {dict(self.sent)}"
        raise Deaf(msg)

    def _look(
        self, what: Callable[[str, str], Any], at_least: int = 0
    ) -> list[tuple[str, list[str]]]:
        """Return names and types; a node is found later than its services are."""
        namespace, _, name = self._target.rpartition("/")
        end_s = time.monotonic() + FIND_TIMEOUT_S
        while time.monotonic() < end_s:
            with suppress(NodeNameNonExistentError):
                found = list(what(name, namespace or "/"))
                if len(found) >= at_least:
                    return found
            time.sleep(POLL_S)
        msg = f"{self._target} is not in the graph"
        raise Deaf(msg)

    def _find_targets(self) -> None:
        services = self._look(self._node.get_service_names_and_types_by_node, LEAST_SERVICES)
        for service, (kind, *_) in services:
            request = find_type(kind).Request
            writer = RawWriter(self._node, request, service)
            self._writers.append(writer)
            self._targets.append(Target(service, request, writer.send))
        heard = self._look(self._node.get_subscriber_names_and_types_by_node)
        topics = {topic: find_type(kind) for topic, (kind, *_) in heard}
        for topic, kind in {**topics, CLOCK_TOPIC: Clock}.items():
            publisher = self._node.create_publisher(kind, topic, 10)
            self._topics.append(Target(topic, kind, _sender(publisher)))
        self._targets += self._topics
        end_s = time.monotonic() + FIND_TIMEOUT_S
        while not all(writer.is_heard for writer in self._writers):
            if time.monotonic() > end_s:
                msg = f"{self._target}: a service was not reached in {FIND_TIMEOUT_S:g} s"
                raise EnvironmentLacks(msg)
            time.sleep(POLL_S)

    def _come_and_go(self) -> None:
        """Offer what does not fit: the node is told by events."""
        topic = self._rng.choice(self._topics)
        kind = self._rng.choice((topic.kind, GetState.Response))
        reliability = self._rng.choice((ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE))
        qos = QoSProfile(depth=1, reliability=reliability)
        publisher = self._stranger.create_publisher(kind, topic.name, qos)
        self._stranger.destroy_publisher(publisher)


def _sender(publisher: Publisher) -> Callable[[bytes], None]:
    publish = make_raw_sender(publisher)

    def send(content: bytes) -> None:
        with suppress(RCLError):  # the middleware refuses to send it
            publish(bytearray(content))

    return send


def _is_end(content: bytes) -> bool:
    """Return whether a request asks for a shutdown."""
    try:
        asked = deserialize_message(content, ChangeState.Request).transition
    except Exception:  # noqa: BLE001 - damaged, whatever the middleware calls it
        return False
    return asked.id in ENDS or "shutdown" in asked.label
