# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag become cameras of which node, where they are replayed through real nodes.

Nodes get topics of their own, so that every bag can be replayed whatever its topics are called. A
node has cameras of one transport.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from perception_node.config.sections import MAX_CAMERAS
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/perception_replay"
SUFFIXES = {RAW_TYPE: "", COMPRESSED_TYPE: "/compressed"}


class LiveCamera(NamedTuple):
    """One image topic of the bag.

    Attributes:
        topic: its name in the bag.
        type_name: its message type.
        image: the topic that its node is told of.
        prefix: where its node publishes the results.

    """

    topic: str
    type_name: str
    image: str
    prefix: str

    @property
    def published(self) -> str:
        """The topic that its images are played on."""
        return self.image + SUFFIXES[self.type_name]


class LiveNode(NamedTuple):
    """One node: its namespace, its transport and its cameras."""

    namespace: str
    transport: str
    cameras: list[LiveCamera]


def plan_nodes(topics: dict[str, str]) -> list[LiveNode]:
    """Return the nodes that it takes to subscribe to all of these topics.

    Their names are of this process alone: another replay may run in the same ROS domain.
    """
    return [
        _plan_node(f"{ROOT}_{os.getpid()}/node_{number}", names, kind)
        for number, (names, kind) in enumerate(_group(topics))
    ]


def _group(topics: dict[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield the topics of one type, as many at a time as a node takes."""
    for kind in TRANSPORTS:
        names = iter([topic for topic, other in topics.items() if other == kind])
        while group := list(islice(names, MAX_CAMERAS)):
            yield group, kind


def _plan_node(namespace: str, topics: list[str], kind: str) -> LiveNode:
    spaces = [f"{namespace}/camera_{number}" for number in range(len(topics))]
    # The results of a node's only camera are in the node's own namespace.
    homes = spaces if len(topics) > 1 else [namespace]
    cameras = [
        LiveCamera(topic, kind, f"{space}/image", f"{home}/perception")
        for topic, space, home in zip(topics, spaces, homes, strict=True)
    ]
    return LiveNode(namespace, TRANSPORTS[kind], cameras)
