# SPDX-License-Identifier: Apache-2.0
"""Messages that no honest peer sends, to every service and topic of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.bench.siege.attack import Attack
from perception_node.bench.siege.messages import MessageFuzzer

if TYPE_CHECKING:
    import random

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.scene import Scene

AT_ONCE = 10
SEEDS = 1 << 30


def fuzz(scene: Scene, source: random.Random, until: Until) -> int:
    """Send random and damaged messages to one node; it must answer in between."""
    node = source.choice(scene.nodes)
    with MessageFuzzer(node.ros.context, node.name, source.randrange(SEEDS)) as fuzzer:
        while not until.is_over:
            fuzzer.send(AT_ONCE)
    return sum(fuzzer.sent.values())


MESSAGES = Attack(
    "messages",
    "every service, topic and field, whole and damaged",
    fuzz,
    changes_state=True,
    changes_parameters=True,
)
