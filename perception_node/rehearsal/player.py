# SPDX-License-Identifier: Apache-2.0
"""Publish the messages of a bag with the timing they were recorded with."""

from __future__ import annotations

import re
import time
from importlib import import_module
from typing import TYPE_CHECKING

from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock

from perception_node.errors import ConfigError, EnvironmentLacks, quote
from perception_node.ros.compat import RCLError
from perception_node.ros.messages import to_time
from perception_node.wire.images import TRANSPORTS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from rclpy.node import Node

    from perception_node.system.signals import StopEvent
    from perception_node.untyped import Message, RosObject
    from perception_node.wire.bags import BagMessage

FLUSH_TIMEOUT_S = 1.0
POLL_S, SETTLE_S = 0.02, 0.5
LONE_PERIOD_S = 0.1  # of messages that have no period: a single one, or all of one moment
LONGEST_WAIT_S = 1e8  # as long as a wait can be; the time of a damaged bag may be any number
TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*/msg/[A-Za-z][A-Za-z0-9_]*")
# What rclpy raises for names and messages that are not ROS's.
NOT_ROS = (InvalidTopicNameException, RCLError, RuntimeError, TypeError, ValueError, OverflowError)
NO_TIME, TIMES_END_NS = "ROS has no such time", 1_000_000_000 << 31
DEPTH = 5  # reliable, so that it matches every subscriber; short, so that nothing old is repaired


class Timeline:
    """When recorded messages are due, at ``rate`` times the recorded speed, from now on."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._start_ns = time.monotonic_ns()
        self._first_ns = self._last_ns = self._number = 0

    def seconds_until(self, time_ns: int) -> float:
        """Return the time until the next message is due; ``time_ns`` is when it was recorded."""
        if self._number == 0:
            self._first_ns = time_ns
        self._last_ns = time_ns
        self._number += 1
        due_ns = self._start_ns + int((time_ns - self._first_ns) / self._rate)
        return min(max(0, due_ns - time.monotonic_ns()) / 1e9, LONGEST_WAIT_S)

    @property
    def mean_period_s(self) -> float:
        """The mean time between two messages, at the speed that they are played with."""
        if self._last_ns == self._first_ns:
            return LONE_PERIOD_S
        return (self._last_ns - self._first_ns) / (self._number - 1) / self._rate / 1e9


class Player:
    """Publishes serialized messages on an absolute schedule.

    Attributes:
        left_out: topics that are not published, and why.
        sent: images published so far.
        unheard: those of them that had no subscriber.

    """

    def __init__(
        self,
        node: Node,
        topics: dict[str, str],
        *,
        with_clock: bool = False,
        is_typed: bool = False,
    ) -> None:
        """Create one publisher per topic; leave out what cannot be published, unless all is so.

        Args:
            node: owner of the publishers.
            topics: names of the topics and their message types.
            with_clock: publish each message's recorded time on /clock just before it.
            is_typed: publish objects of the message's class, as drivers do, instead of the bytes;
                a middleware may treat the two differently.

        Raises:
            ConfigError: ROS allows none of these topics, or none of these types.
            EnvironmentLacks: none of these types is installed here.

        """
        self.left_out: dict[str, str] = {}
        self.sent = self.unheard = 0
        self._publishers, classes = {}, {}
        for topic, kind in topics.items():
            try:
                classes[topic] = import_type(kind)
                self._publishers[topic] = _create_publisher(node, classes[topic], topic)
            except (ConfigError, EnvironmentLacks) as error:
                if len(self.left_out) + 1 == len(topics):
                    raise
                self.left_out[topic] = str(error)
        self._images = {t for t in self._publishers if topics[t] in TRANSPORTS}
        self._classes = classes if is_typed else {}
        self._clock = _create_publisher(node, Clock, "/clock", 1) if with_clock else None

    @property
    def has_subscribers(self) -> bool:
        """Somebody listens to each of the topics."""
        return all(p.get_subscription_count() for p in self._publishers.values())

    def wait_for_subscribers(
        self, count: int, timeout_s: float, stop: threading.Event | StopEvent
    ) -> int:
        """Wait for so many subscribers to the images, and return how many are there.

        Where no images are played, those to anything count. Then wait a moment more: a subscriber
        may learn of a publisher after the publisher of it.
        """
        topics = self._images or self._publishers.keys()
        end_s = time.monotonic() + timeout_s
        while True:
            found = int(sum(self._publishers[one].get_subscription_count() for one in topics))
            if found >= count or time.monotonic() >= end_s or stop.wait(POLL_S):
                break
        if 0 < count <= found:
            stop.wait(SETTLE_S)
        return found

    def play(
        self,
        messages: Iterable[BagMessage],
        rate: float,
        stop: threading.Event | StopEvent,
        before_publish: Callable[[BagMessage], None] = lambda _: None,
    ) -> float:
        """Publish ``messages`` at ``rate`` times their recorded speed, until ``stop`` is set.

        ``before_publish`` is called with each message just before it is sent. Returns how many
        seconds to wait before a message that follows: the mean time between two of these.
        """
        timeline = Timeline(rate)
        for message in messages:
            if stop.wait(timeline.seconds_until(message.time_ns)):
                break
            content = self._prepare(message)
            before_publish(message)
            self._count(message.topic)
            self._publishers[message.topic].publish(content)
        return timeline.mean_period_s

    def _count(self, topic: str) -> None:
        if topic in self._images:
            self.sent += 1
            self.unheard += not self._publishers[topic].get_subscription_count()

    def _prepare(self, message: BagMessage) -> Message:
        """Publish the time of a message and return what is to be published of itself.

        Raises:
            ConfigError: it was recorded at no time of ROS, or is damaged.

        """
        try:
            if self._clock is not None:
                if not 0 <= message.time_ns < TIMES_END_NS:
                    raise ValueError(NO_TIME)
                self._clock.publish(Clock(clock=to_time(message.time_ns)))
            if message.topic in self._classes:
                return deserialize_message(message.data, self._classes[message.topic])
        except NOT_ROS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            msg = f"the message of {message.topic} at {message.time_ns} ns cannot be played"
            raise ConfigError(f"{msg}: {reason}") from error
        return message.data

    def play_again_and_again(
        self,
        read_messages: Callable[[], Iterable[BagMessage]],
        rate: float,
        stop: threading.Event | StopEvent,
    ) -> None:
        """Play what ``read_messages`` returns until ``stop`` is set, over and over.

        The first message follows the last like any other. Sent together, one of the two would be
        lost to a subscriber that takes the newest, and the other's age be judged by a wrong clock.
        """
        while not stop.is_set():
            stop.wait(self.play(read_messages(), rate, stop))

    def flush(self) -> None:
        """Wait until every subscriber that asks for reliable delivery has what was published."""
        clock = [self._clock] if self._clock is not None else []
        for publisher in (*clock, *self._publishers.values()):
            publisher.wait_for_all_acked(Duration(seconds=FLUSH_TIMEOUT_S))


def _create_publisher(node: Node, kind: Message, topic: str, depth: int = DEPTH) -> RosObject:
    if "\0" in topic:
        raise ConfigError(f"topic {quote(topic)} cannot be published: it holds NUL")
    try:
        return node.create_publisher(kind, topic, QoSProfile(depth=depth))
    except NOT_ROS as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"topic {quote(topic)} cannot be published: {reason}") from error


def import_type(name: str) -> Message:
    """Import a message class such as ``sensor_msgs/msg/Image``.

    Raises:
        ConfigError: no type has such a name.
        EnvironmentLacks: it is not installed.

    """
    if not TYPE_NAME.fullmatch(name):
        raise ConfigError(f"{quote(name)} is no message type, such as sensor_msgs/msg/Image")
    package, _, kind = name.partition("/msg/")
    try:
        return getattr(import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        msg = f"message type {name} is not installed; source the workspace that has {package}"
        raise EnvironmentLacks(msg) from error
