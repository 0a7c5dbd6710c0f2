# SPDX-License-Identifier: Apache-2.0
"""The highest rate at which a subject still answers: under 1 % of frames dropped or too late."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.levels.node_run import TOO_SLOW
from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.bench.reporting.measurement import Run

HIGHEST_MISSED_SHARE = 0.01
RESOLUTION = 1.025  # two rates that lie no further apart are one
PROBE_S, FEWEST_PROBE_FRAMES = 5.0, 150
# A share of misses that one hiccup of the machine explains: such a probe is repeated once.
HICCUP_SHARE = 0.1


class Probe(NamedTuple):
    """One rate that was tried.

    Attributes:
        rate_hz: frames per second of each camera.
        run: what came of it.
        is_kept: under 1 % of the frames were missed, and the camera really had this rate.
        is_confirmation: it was a longer run.

    """

    rate_hz: float
    run: Run
    is_kept: bool
    is_confirmation: bool


@dataclass
class SweepResult:
    """What a sweep has found.

    Attributes:
        rate_hz: the highest rate that was kept, in a longer run as well; 0 if none was.
        is_highest: a higher rate failed; False if all that was asked for was kept.
        probes: every run, in order.

    """

    rate_hz: float = 0.0
    is_highest: bool = True
    probes: list[Probe] = field(default_factory=list)


def find_highest_rate(
    measure: Callable[[float], Run],
    lowest_hz: float,
    highest_hz: float,
    confirm: Callable[[float], Run] | None = None,
) -> SweepResult:
    """Bisect between two rates, to 2.5 %.

    Args:
        measure: makes a short run at a rate; ``count_probe_frames`` says how short.
        lowest_hz: the rate to begin with; if it is not kept, the result is 0.
        highest_hz: no higher rate is tried.
        confirm: makes a longer run; where it fails, the next lower rates are tried. None takes
            ``measure``.

    Raises:
        ConfigError: the rates are not in order.

    """
    if not 0.0 < lowest_hz <= highest_hz < math.inf:
        msg = f"--sweep: rates must be in order, found {lowest_hz:g} to {highest_hz:g} Hz"
        raise ConfigError(msg)
    result = SweepResult()

    def is_kept(rate_hz: float) -> bool:
        probe = _try(measure, rate_hz, result)
        if not probe.is_kept and _missed_share(probe.run) < HICCUP_SHARE:
            probe = _try(measure, rate_hz, result)
        return probe.is_kept

    if not is_kept(lowest_hz):
        return result
    kept_hz, failed_hz = lowest_hz, highest_hz
    if lowest_hz < highest_hz and is_kept(highest_hz):
        kept_hz = highest_hz
    while kept_hz * RESOLUTION < failed_hz:
        middle_hz = math.sqrt(kept_hz * failed_hz)  # halves the ratio, which is what counts
        if is_kept(middle_hz):
            kept_hz = middle_hz
        else:
            failed_hz = middle_hz
    result.rate_hz = _confirm(confirm or measure, kept_hz, lowest_hz, result)
    result.is_highest = result.rate_hz < highest_hz
    return result


def count_probe_frames(rate_hz: float) -> int:
    """Return how many frames a short run at a rate has: 5 s, at least 150."""
    return max(FEWEST_PROBE_FRAMES, math.ceil(PROBE_S * rate_hz))


def _confirm(
    measure: Callable[[float], Run], rate_hz: float, lowest_hz: float, result: SweepResult
) -> float:
    """Return the first rate from ``rate_hz`` downwards that a longer run keeps; 0 if none does."""
    while True:
        if _try(measure, rate_hz, result, is_confirmation=True).is_kept:
            return rate_hz
        if rate_hz <= lowest_hz:
            return 0.0
        rate_hz = max(lowest_hz, rate_hz / RESOLUTION)


def _try(
    measure: Callable[[float], Run],
    rate_hz: float,
    result: SweepResult,
    *,
    is_confirmation: bool = False,
) -> Probe:
    run = measure(rate_hz)
    is_slow = any(remark.startswith(TOO_SLOW) for remark in run.remarks)
    is_kept = _missed_share(run) < HIGHEST_MISSED_SHARE and not is_slow
    probe = Probe(rate_hz, run, is_kept, is_confirmation)
    result.probes.append(probe)
    return probe


def _missed_share(run: Run) -> float:
    sent = run.counts.get("sent", 0)
    return run.counts.get("missed", 0) / sent if sent else 1.0
