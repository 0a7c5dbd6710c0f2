# SPDX-License-Identifier: Apache-2.0
"""The README's tables say what the running node has."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from perception_node.cli import VERBS
from perception_node.vision.encodings import ENCODINGS
from tests.ros.harness import NODE, wait_for

pytestmark = pytest.mark.ros
README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)`( \(in\))? \| `(\w+)/(\w+)` \| ([^|]+) \|", re.MULTILINE)
HOUSEKEEPING = {"/rosout", "/parameter_events", f"{NODE}/transition_event", "/clock"}


def section(title: str) -> str:
    """Return the text below a heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def topics() -> dict[str, tuple[str, bool, str]]:
    """Return type, direction and QoS of each topic in the table, by its resolved name."""
    return {
        name.replace("~", NODE) if name.startswith("~") else f"/{name.lstrip('/')}": (
            f"{package}/msg/{kind}",
            bool(is_input),
            qos,
        )
        for name, is_input, package, kind, qos in ROW.findall(section("Topics"))
    }


@pytest.fixture(params=["raw", "compressed"])
def node(request, start, peer):
    """Return the peer's node while ours is active with one of the transports."""
    with start(image_transport=request.param):
        peer.wait_until("active")
        yield request.param, peer.node


def test_the_table_of_topics_is_the_nodes(node):
    transport, peer_node = node
    unused = "/image/compressed" if transport == "raw" else "/image"
    listed = {name: row for name, row in topics().items() if name != unused}

    def found() -> dict[str, tuple[str, bool]]:
        published = peer_node.get_publisher_names_and_types_by_node("perception", "/")
        subscribed = peer_node.get_subscriber_names_and_types_by_node("perception", "/")
        return {
            name: (types[0], is_input)
            for pairs, is_input in ((published, False), (subscribed, True))
            for name, types in pairs
            if name not in HOUSEKEEPING
        }

    expected = {name: (kind, is_input) for name, (kind, is_input, _) in listed.items()}
    wait_for(lambda: found() == expected, lambda: f"{expected}, found {found()}")


def test_the_table_names_the_qos_in_use(node):
    transport, peer_node = node
    for name, (_, is_input, qos) in topics().items():
        if name in {"/image", "/image/compressed"} and (transport == "raw") == (
            name == "/image/compressed"
        ):
            continue
        read_infos = (
            peer_node.get_subscriptions_info_by_topic
            if is_input
            else peer_node.get_publishers_info_by_topic
        )
        infos = wait_for(partial(read_infos, name), lambda name=name: f"an end of {name}")
        profile = infos[0].qos_profile
        is_latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert is_latched == ("latched" in qos), name
        is_best_effort = profile.reliability == ReliabilityPolicy.BEST_EFFORT
        assert is_best_effort == ("sensor data" in qos), name


def test_the_list_of_encodings_is_complete():
    text = section("Topics").partition("Encodings: ")[2].partition(";")[0]
    assert {name.strip() for name in text.split(",")} == set(ENCODINGS)


def test_the_table_of_commands_is_complete():
    assert re.findall(r"^\| `perception (\w+)", section("The command line"), re.MULTILINE) == list(
        VERBS
    )
