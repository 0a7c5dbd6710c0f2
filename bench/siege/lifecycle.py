# SPDX-License-Identifier: Apache-2.0
"""What a peer in the graph may do: transitions in any order, spoilt bundles, hostile messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from perception_node.bench.hil.services import TRANSITIONS
from perception_node.bench.siege.attack import Attack, happens
from perception_node.bench.siege.messages import MessageFuzzer

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.scene import NodeTarget, Scene

LONGEST_PAUSE_S = 0.3
POSSIBLE = {
    "unconfigured": ("configure",),
    "inactive": ("activate", "cleanup"),
    "active": ("deactivate",),
}
IMPOSSIBLE_SHARE = 0.2
AT_ONCE, SEEDS = 10, 1 << 30
FILES = ("bundle.json", "labels.txt", "model.onnx")


def wander(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Ask for transitions, most of them possible ones."""
    while not until.wait(source.uniform(0.0, LONGEST_PAUSE_S)):
        node = source.choice(scene.nodes)
        state = node.services.read_state() or ""
        steps = POSSIBLE.get(state, ())
        if not steps or happens(source, IMPOSSIBLE_SHARE):
            steps = tuple(TRANSITIONS)
        node.services.change(source.choice(steps))
        yield


def spoil_bundle(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Let nodes configure with a spoilt bundle, which they must refuse; put it right again."""
    while not until.is_over:
        node = source.choice(scene.nodes)
        for step in ("deactivate", "cleanup"):
            node.services.change(step)
        file = scene.bundle / source.choice(FILES)
        what = _spoil(node, file, source)
        if what:
            scene.accepted.append(f"{node.name}: configured with {file.name} {what}")
        node.bring_up()
        yield


def _spoil(node: NodeTarget, file: Path, source: random.Random) -> str:
    """Configure with a spoilt file; return what was wrong with it if that was accepted."""
    kept = file.with_suffix(".kept")
    file.rename(kept)
    try:
        what = source.choice(("changed", "cut", "missing", "a folder", "a FIFO"))
        data = kept.read_bytes()
        place = source.randrange(len(data))
        if what == "changed":
            file.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        elif what == "cut":
            file.write_bytes(data[:place])
        elif what == "a folder":
            file.mkdir()
        elif what == "a FIFO":
            os.mkfifo(file)
        return "" if node.services.change("configure") else what
    finally:
        if file.is_dir():
            file.rmdir()
        kept.replace(file)


def fuzz(scene: Scene, source: random.Random, until: Until) -> Iterator[object]:
    """Send random and damaged messages to one node; it must answer in between."""
    node = source.choice(scene.nodes)
    with MessageFuzzer(node.ros.context, node.name, source.randrange(SEEDS)) as fuzzer:
        while not until.is_over:
            fuzzer.send(AT_ONCE)
            yield from range(AT_ONCE)


LIFECYCLE = Attack("lifecycle", "transitions in any order", wander, changes_state=True)
BUNDLES = Attack("bundles", "configuring with a spoilt bundle", spoil_bundle, changes_state=True)
MESSAGES = Attack(
    "messages",
    "every service, topic and field, whole and damaged",
    fuzz,
    changes_state=True,
    changes_parameters=True,
)
