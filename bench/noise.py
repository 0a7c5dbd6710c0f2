# SPDX-License-Identifier: Apache-2.0
"""How well this machine keeps time: no latency can be measured finer than this."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import NamedTuple

from perception_node.bench.reporting.durations import Durations

SLEEP_NS = 1_000_000
READS = 20_000


class Noise(NamedTuple):
    """What the clock and the scheduler add to every measurement.

    Attributes:
        clock_resolution_ns: smallest step of the steady clock that was seen.
        clock_read_ns: what one look at it costs.
        sleep_late_p50_ms: how late a sleep of 1 ms ends.
        sleep_late_p99_ms: the same.
        sleep_late_max_ms: the same, at worst.
        sleeps: how many there were.

    """

    clock_resolution_ns: int
    clock_read_ns: float
    sleep_late_p50_ms: float
    sleep_late_p99_ms: float
    sleep_late_max_ms: float
    sleeps: int

    def describe(self) -> str:
        """Return two lines for a terminal."""
        return (
            f"clock: steps of {self.clock_resolution_ns} ns, {self.clock_read_ns:.0f} ns a look\n"
            f"sleeps of 1 ms end late by {self.sleep_late_p50_ms:.3f} ms (p50), "
            f"{self.sleep_late_p99_ms:.3f} (p99), {self.sleep_late_max_ms:.3f} (max of "
            f"{self.sleeps})"
        )


def measure_noise(seconds: float = 1.0) -> Noise:
    """Look at the clock many times, then sleep for a millisecond again and again.

    Args:
        seconds: how long to sleep, all in all; at least once.

    """
    resolution_ns, read_ns = _measure_clock()
    lateness = Durations()
    end_ns = time.monotonic_ns() + int(seconds * 1e9)
    now_ns = 0
    while now_ns < end_ns:
        due_ns = time.monotonic_ns() + SLEEP_NS
        time.sleep(SLEEP_NS / 1e9)
        now_ns = time.monotonic_ns()
        lateness.add(now_ns - due_ns)
    late = lateness.summarize()
    return Noise(resolution_ns, read_ns, late.p50_ms, late.p99_ms, late.max_ms, late.count)


def _measure_clock() -> tuple[int, float]:
    """Return the smallest step that was seen and the mean cost of a look, in nanoseconds."""
    looks = [time.monotonic_ns() for _ in range(READS)]
    steps = [b - a for a, b in pairwise(looks) if b > a]
    return min(steps), (looks[-1] - looks[0]) / (READS - 1)
