# SPDX-License-Identifier: Apache-2.0
"""What a node may use after hours of faults: no more memory, files, threads or time than before.

Long runs have the limits of a release. In short ones (CI: 60 s) caches still fill and the other
programs of the machine weigh more, so their limits are wider, and too few ages are not judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from perception_node.bench.process_watch import ProcessSample

LONG_S = 1800.0
WARM_UP_SHARE, LONGEST_WARM_UP_S = 0.25, 300.0
MAX_SLOPE_MIB_PER_H = 1.0
MAX_GROWTH_MIB, MAX_SHORT_GROWTH_MIB = 20.0, 10.0
# The segments of two participants (launch/fastdds_profile.xml); they fill up as they are used.
MAX_SHARED_MIB = 2 * 32.0 + 8.0
BLOCKS = 200
QUARTER = 4
FEWEST_SAMPLES = 4
ENOUGH_AGES = 1000  # per third: the 99th percentile then has ten above it
MANY_AGES = 10_000
WIDTH = 32  # of a column


class Row(NamedTuple):
    """One line of the verdict."""

    what: str
    found: str
    limit: str
    is_ok: bool


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print one row per limit: what, found, limit, ok or FAILED."""
    for row in rows:
        verdict = "[green]ok[/]" if row.is_ok else "[red]FAILED[/]"
        text = escape(f"{row.what:<{WIDTH}} {row.found:<{WIDTH}} {row.limit:<{WIDTH}}")
        console.print(f"{text} {verdict}")


def judge_process(samples: Sequence[ProcessSample]) -> list[Row]:
    """Judge memory, descriptors and threads after the warm-up."""
    settled = _after_warm_up(samples)
    if len(settled) < FEWEST_SAMPLES:
        found = f"{len(settled)} samples after the warm-up"
        return [Row("process", found, f"at least {FEWEST_SAMPLES}", is_ok=False)]
    times_s = np.array([sample.time_s for sample in settled])
    own_mib = np.array([sample.own_mib for sample in settled])
    shared_mib = max(sample.shared_mib for sample in settled)
    rows = [
        *_judge_memory(times_s, own_mib),
        _at_most("shared memory, MiB", shared_mib, MAX_SHARED_MIB),
    ]
    for what in ("descriptors", "threads"):
        counts = np.array([getattr(sample, what) for sample in settled], float)
        rows.append(_at_most(f"growth of {what}", _growth(counts), 0.0))
    return rows


def judge_drift(ages_ms: NDArray[np.float64]) -> Row:
    """Compare the 99th percentile of ages, in order, in the last third and in the first."""
    what = "p99 of ages, last third"
    third = len(ages_ms) // 3
    if third < ENOUGH_AGES:
        return Row(what, f"{third} ages", f"judged from {ENOUGH_AGES} on", is_ok=True)
    first_ms, last_ms = (
        float(np.percentile(part, 99)) for part in (ages_ms[:third], ages_ms[-third:])
    )
    limit_ms = first_ms * 1.1 + 1.0 if third >= MANY_AGES else first_ms * 1.5 + 20.0
    limit = f"at most {limit_ms:.1f} ms (first third: {first_ms:.1f})"
    return Row(what, f"{last_ms:.1f} ms", limit, last_ms <= limit_ms)


def fit_slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the median slope between any two of at most 200 block medians (Theil and Sen)."""
    blocks = np.array_split(np.arange(len(times)), min(BLOCKS, len(times)))
    x = np.array([np.median(times[block]) for block in blocks])
    y = np.array([np.median(values[block]) for block in blocks])
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def _judge_memory(times_s: NDArray[np.float64], own_mib: NDArray[np.float64]) -> list[Row]:
    growth_mib = _growth(own_mib)
    if times_s[-1] - times_s[0] < LONG_S:
        return [_at_most("growth of memory, MiB", growth_mib, MAX_SHORT_GROWTH_MIB)]
    slope = fit_slope(times_s / 3600.0, own_mib)
    return [
        _at_most("growth of memory, MiB", growth_mib, MAX_GROWTH_MIB),
        _at_most("slope of memory, MiB/h", slope, MAX_SLOPE_MIB_PER_H),
    ]


def _after_warm_up(samples: Sequence[ProcessSample]) -> Sequence[ProcessSample]:
    if not samples:
        return samples
    begin_s, end_s = samples[0].time_s, samples[-1].time_s
    warm_up_s = min(WARM_UP_SHARE * (end_s - begin_s), LONGEST_WARM_UP_S)
    return [sample for sample in samples if sample.time_s >= begin_s + warm_up_s]


def _growth(values: NDArray[np.float64]) -> float:
    """Return the median of the last quarter less that of the first."""
    quarter = max(1, len(values) // QUARTER)
    return float(np.median(values[-quarter:]) - np.median(values[:quarter]))


def _at_most(what: str, found: float, limit: float) -> Row:
    return Row(what, f"{found:.1f}", f"at most {limit:g}", found <= limit)
