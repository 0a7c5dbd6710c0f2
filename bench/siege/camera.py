# SPDX-License-Identifier: Apache-2.0
"""Cameras that do what drivers do when they fail: bursts, wrong clocks, two at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile, ReliabilityPolicy

from perception_node.bench.camera.load_sources import TYPES
from perception_node.bench.siege.asking import RATE_HZ
from perception_node.bench.siege.attack import Attack, happens
from perception_node.bench.siege.record import SECOND_NS
from perception_node.rehearsal.player import import_type

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.scene import Scene

BURST = 10  # times the usual rate
LONG_AGO_NS, FAR_NS = 3600 * SECOND_NS, (1 << 31) * SECOND_NS - 1


def burst(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Send good pictures far too often, now and then a hundred at once."""
    while not until.wait(1.0 / (BURST * RATE_HZ)):
        for node in scene.nodes:
            for _ in range(100 if happens(source, 0.01) else 1):
                node.camera.send_good(source.randrange(len(scene.pictures)))
                yield


def lie(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Send good pictures whose stamps are of another time: no answer to them may be late."""
    while not until.wait(1.0 / RATE_HZ):
        for node in scene.nodes:
            now_ns = node.camera.take_stamp()
            stamp_ns = source.choice(
                (
                    now_ns - source.randrange(1, 10 * SECOND_NS),
                    now_ns - LONG_AGO_NS - source.randrange(SECOND_NS),
                    now_ns + source.randrange(1, 10 * SECOND_NS),
                    now_ns + LONG_AGO_NS + source.randrange(SECOND_NS),
                    source.randrange(FAR_NS),
                )
            )
            node.camera.send_good(source.randrange(len(scene.pictures)), stamp_ns)
            yield


def double(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Let a second camera appear on each topic, with another rate and QoS, and leave again."""
    while not until.is_over:
        policy = source.choice((ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT))
        qos = QoSProfile(depth=source.randint(1, 10), reliability=policy)
        node = source.choice(scene.nodes)
        second = node.ros.create_publisher(import_type(TYPES[node.transport]), node.topic, qos)
        try:
            for _ in range(source.randint(1, 40)):
                node.camera.send_good(source.randrange(len(scene.pictures)), publisher=second)
                yield
                if until.wait(source.uniform(0.01, 0.2)):
                    break
        finally:
            node.ros.destroy_publisher(second)


BURSTS = Attack("bursts", "ten times as many pictures, or a hundred at once", burst)
STAMPS = Attack("stamps", "pictures from the future and the past", lie)
SECOND_CAMERA = Attack("second camera", "another camera on the same topic", double)
