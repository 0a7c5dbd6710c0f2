# SPDX-License-Identifier: Apache-2.0
"""When cameras send their frames, and which stamps these get."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perception_node.bench.camera.load import Load

CLOSE_NS = 20_000  # two looks at two clocks that lie no further apart are one


class Turn(NamedTuple):
    """When which camera sends its next frame; ``due_ns`` counts from the first frame."""

    due_ns: int
    camera: int
    number: int


def plan(load: Load) -> Iterator[Turn]:
    """Yield the turns of all cameras in order, evenly staggered."""
    period_ns = 1e9 / load.rate_hz
    for number in range(load.warm_up_frames + load.frames):
        for camera in range(load.cameras):
            yield Turn(round((number + camera / load.cameras) * period_ns), camera, number)


def to_system_ns(steady_ns: int) -> int:
    """Return a moment of the steady clock on the system's clock, which stamps are on."""
    for _ in range(3):  # once, unless the kernel stops us between the looks
        before_ns = time.monotonic_ns()
        system_ns = time.time_ns()
        if time.monotonic_ns() - before_ns < CLOSE_NS:
            break
    return system_ns - before_ns + steady_ns
