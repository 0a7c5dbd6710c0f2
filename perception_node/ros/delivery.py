# SPDX-License-Identifier: Apache-2.0
"""How images reach this process: as bytes, or only as messages that rclpy has made of them.

Bytes cost least, but a middleware may keep them back without a word: that of Lyrical does so with
all messages that hold ``uint8[]`` (ros2/rmw_fastrtps#881). So it is tried out.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from perception_node.errors import EnvironmentLacks, FrameError
from perception_node.ros.compat import NO_PUBLISHER_EVENTS, NO_SUBSCRIPTION_EVENTS, take
from perception_node.wire.images import peek_header

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher

    from perception_node.untyped import Message

TOPICS = "~/_loopback"  # the underscore hides them from `ros2 topic list`
# Lyrical delivers even bytes until its publisher has learned all about a subscription.
ENOUGH = 10
PERIOD_S, TIMEOUT_S = 0.01, 5.0
BYTES, MESSAGES = "bytes", "messages"
SENDER = str(os.getpid())  # another process may have a node of this name
_found: dict[type, str] = {}


def find_delivery(node: Node, kind: type) -> str:
    """Return how messages of a typed publisher, such as a camera's driver, reach a subscription.

    This process sends tiny ones to itself, once for each type.

    Args:
        node: owner of the publisher and the subscriptions, which are gone afterwards.
        kind: ``sensor_msgs.msg.Image`` or ``CompressedImage``.

    Returns:
        BYTES where a subscription to bytes gets them, otherwise MESSAGES.

    Raises:
        EnvironmentLacks: they do not arrive at all.

    """
    if kind not in _found:
        _found[kind] = _try_out(node, kind)
    return _found[kind]


def _try_out(node: Node, kind: type) -> str:
    # rclpy would keep a few references to each entity in the node's own group.
    group = MutuallyExclusiveCallbackGroup()
    qos = QoSProfile(depth=ENOUGH)
    topic = f"{TOPICS}/{kind.__name__}"  # a topic has one type, also while it is being destroyed
    with ExitStack() as undo:
        ways = {way: _Way() for way in (BYTES, MESSAGES)}
        for name, way in ways.items():
            way.subscription = node.create_subscription(
                kind,
                topic,
                way.note,
                qos,
                callback_group=group,
                event_callbacks=NO_SUBSCRIPTION_EVENTS,
                raw=name == BYTES,
            )
            undo.callback(node.destroy_subscription, way.subscription)
        publisher = node.create_publisher(
            kind, topic, qos, callback_group=group, event_callbacks=NO_PUBLISHER_EVENTS
        )
        undo.callback(node.destroy_publisher, publisher)
        return _send_until_known(publisher, kind, ways)


class _Way:
    """A subscription to what this process sends, and the last number that came."""

    def __init__(self) -> None:
        self.newest = 0
        self.subscription: Any = None

    def take_all(self) -> None:
        """Take what has come, unless an executor that spins the node has taken it."""
        while (taken := take(self.subscription)) is not None:
            self.note(taken.message)

    def note(self, message: Message) -> None:
        try:
            header = peek_header(message)
        except FrameError:  # bytes of another kind than ours
            return
        if header.frame_id == SENDER:
            self.newest = max(self.newest, header.stamp_ns)


def _send_until_known(publisher: Publisher, kind: type, ways: dict[str, _Way]) -> str:
    first = 0
    for number in range(1, round(TIMEOUT_S / PERIOD_S) + 1):
        header = Header(stamp=Time(nanosec=number), frame_id=SENDER)
        publisher.publish(kind(header=header))
        time.sleep(PERIOD_S)
        for way in ways.values():
            way.take_all()
        as_bytes, as_messages = ways[BYTES].newest, ways[MESSAGES].newest
        first = first or max(as_bytes, as_messages)
        if first and as_bytes >= first + ENOUGH:
            return BYTES
        if first and as_messages >= max(first, as_bytes) + ENOUGH:
            return MESSAGES
    middleware = rclpy.get_rmw_implementation_identifier()
    problem = f"{middleware} delivered no image from this process to itself in {TIMEOUT_S:g} s"
    raise EnvironmentLacks(f"{problem}; run: perception doctor")
