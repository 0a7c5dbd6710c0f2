# SPDX-License-Identifier: Apache-2.0
"""Who publishes and subscribes a topic, with which QoS, in words for an error message."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rclpy.node import Node

    from perception_node.bench.hil.scenario import Scenario

VARIABLES = {
    "ROS_DOMAIN_ID": "0",
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    "ROS_LOCALHOST_ONLY": "0",  # Humble
}


def describe_silence(node: Node, scenario: Scenario, what: str) -> str:
    """Say in one line that something did not come in time, who is there, and what to check."""
    plan = scenario.node
    topics = describe_topics(node, (scenario.camera.full_topic, f"{plan.target}/classification"))
    return f"{what} within {plan.timeout_s:g} s; {topics}; {describe_environment()}"


def describe_topics(node: Node, topics: Iterable[str]) -> str:
    """Say for each topic who is there, as ``node`` has discovered it."""
    return "; ".join(
        f"{topic}: publishers {_describe(node.get_publishers_info_by_topic(topic))}, "
        f"subscribers {_describe(node.get_subscriptions_info_by_topic(topic))}"
        for topic in topics
    )


def describe_environment() -> str:
    """Say what must be the same on both sides, and what it is here."""
    values = ", ".join(f"{n} is {os.environ.get(n) or d}" for n, d in VARIABLES.items())
    return (
        f"{values} here and must fit on the device; the Fast DDS profile is needed on both sides"
    )


def _describe(endpoints: list[Any]) -> str:
    words = [
        f"{endpoint.node_name} ({endpoint.qos_profile.reliability.name.lower()}, "
        f"{endpoint.qos_profile.durability.name.lower()})"
        for endpoint in endpoints
    ]
    return ", ".join(words) or "none"
