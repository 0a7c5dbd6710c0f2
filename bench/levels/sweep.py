# SPDX-License-Identifier: Apache-2.0
"""The highest rate at which a subject still answers: under 1 % of frames dropped or too late."""

from __future__ import annotations

import math
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


class SweepResult(NamedTuple):
    """What a sweep has found.

    Attributes:
        rate_hz: the highest rate that was kept, in a longer run as well; 0 if none was.
        is_highest: a higher rate failed; False if all that was asked for was kept.
        run: the longer run at this rate; None if there is none.

    """

    rate_hz: float = 0.0
    is_highest: bool = True
    run: Run | None = None


def find_highest_rate(
    measure: Callable[[float], Run],
    lowest_hz: float,
    highest_hz: float,
    confirm: Callable[[float], Run],
) -> SweepResult:
    """Bisect between two rates, to 2.5 %.

    A rate is kept if under 1 % of the frames are missed, and the camera really has this rate.

    Args:
        measure: makes a short run at a rate; ``count_probe_frames`` says how short.
        lowest_hz: the rate to begin with; if it is not kept, the result is 0.
        highest_hz: no higher rate is tried.
        confirm: makes a longer run; where it fails, the next lower rates are tried.

    Raises:
        ConfigError: the rates are not in order.

    """
    if not 0.0 < lowest_hz <= highest_hz < math.inf:
        msg = f"--sweep: rates must be in order, found {lowest_hz:g} to {highest_hz:g} Hz"
        raise ConfigError(msg)

    def is_kept(rate_hz: float) -> bool:
        run = measure(rate_hz)
        if not _is_kept(run) and _missed_share(run) < HICCUP_SHARE:
            run = measure(rate_hz)
        return _is_kept(run)

    if not is_kept(lowest_hz):
        return SweepResult()
    kept_hz, failed_hz = lowest_hz, highest_hz
    if lowest_hz < highest_hz and is_kept(highest_hz):
        kept_hz = highest_hz
    while kept_hz * RESOLUTION < failed_hz:
        middle_hz = math.sqrt(kept_hz * failed_hz)  # halves the ratio, which is what counts
        if is_kept(middle_hz):
            kept_hz = middle_hz
        else:
            failed_hz = middle_hz
    while not _is_kept(run := confirm(kept_hz)):
        if kept_hz <= lowest_hz:
            return SweepResult()
        kept_hz = max(lowest_hz, kept_hz / RESOLUTION)
    return SweepResult(kept_hz, kept_hz < highest_hz, run)


def count_probe_frames(rate_hz: float) -> int:
    """Return how many frames a short run at a rate has: 5 s, at least 150."""
    return max(FEWEST_PROBE_FRAMES, math.ceil(PROBE_S * rate_hz))


def _is_kept(run: Run) -> bool:
    is_slow = any(remark.startswith(TOO_SLOW) for remark in run.remarks)
    return _missed_share(run) < HIGHEST_MISSED_SHARE and not is_slow


def _missed_share(run: Run) -> float:
    sent = run.counts.get("sent", 0)
    return run.counts.get("missed", 0) / sent if sent else 1.0
