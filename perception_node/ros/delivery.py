# SPDX-License-Identifier: Apache-2.0
"""How images reach this process: as bytes, or only as messages that rclpy has made of them.

Bytes cost least, but a middleware may keep them back without a word: that of Lyrical does so with
all messages that hold ``uint8[]`` (ros2/rmw_fastrtps#881). So it is tried out.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import rclpy
from builtin_interfaces.msg import Time
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from perception_node.errors import EnvironmentLacks, FrameError
from perception_node.ros.compat import take
from perception_node.ros.images import peek_header

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher
    from rclpy.subscription import Subscription

TOPIC = "~/_loopback"  # the underscore hides it from `ros2 topic list`
# Lyrical delivers even bytes until its publisher has learned all about a subscription.
ENOUGH = 10
PERIOD_S, TIMEOUT_S = 0.01, 5.0
BYTES, MESSAGES = "bytes", "messages"
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
    with ExitStack() as undo:

        def subscribe(*, raw: bool) -> Subscription:
            made = node.create_subscription(
                kind, TOPIC, lambda _: None, qos, callback_group=group, raw=raw
            )
            undo.callback(node.destroy_subscription, made)
            return made

        ways = {BYTES: subscribe(raw=True), MESSAGES: subscribe(raw=False)}
        publisher = node.create_publisher(kind, TOPIC, qos, callback_group=group)
        undo.callback(node.destroy_publisher, publisher)
        return _send_until_known(publisher, kind, ways)


def _send_until_known(publisher: Publisher, kind: type, ways: dict[str, Subscription]) -> str:
    newest = dict.fromkeys(ways, 0)  # number of the last message that came in each way
    sender, first = str(os.getpid()), 0
    for number in range(1, round(TIMEOUT_S / PERIOD_S) + 1):
        header = Header(stamp=Time(nanosec=number), frame_id=sender)
        publisher.publish(kind(header=header))
        time.sleep(PERIOD_S)
        for way, subscription in ways.items():
            newest[way] = max(newest[way], _read_newest(subscription, sender))
        first = first or max(newest.values())
        if first and newest[BYTES] >= first + ENOUGH:
            return BYTES
        if first and newest[MESSAGES] >= max(first, newest[BYTES]) + ENOUGH:
            return MESSAGES
    middleware = rclpy.get_rmw_implementation_identifier()
    problem = f"{middleware} delivered no image from this process to itself in {TIMEOUT_S:g} s"
    raise EnvironmentLacks(f"{problem}; run: perception doctor")


def _read_newest(subscription: Subscription, sender: str) -> int:
    """Return the number of the last message that has come from ``sender``, 0 if none has."""
    newest = 0
    while (message := take(subscription)) is not None:
        try:
            header = peek_header(message)
        except FrameError:  # bytes of another kind than ours
            continue
        if header.frame_id == sender:
            newest = header.stamp_ns
    return newest
