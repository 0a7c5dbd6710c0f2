# SPDX-License-Identifier: Apache-2.0
"""How sure a figure of repeated runs is.

Runs differ for two reasons: few frames, and a machine that is never the same. A bootstrap of
blocks of frames (neighbours are alike) says what the first explains; if the runs differ by more,
that counts (variance components: Kalibera and Jones, Rigorous Benchmarking in Reasonable Time,
2013). Two or three runs say little about how much runs differ, so the interval takes Student's t;
one that is read off resampled runs would be too narrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

REPLICATES = 500
SHORTEST_BLOCK = 10
MOST_AT_ONCE = 4_000_000  # numbers in memory
SEED = 20131

# 97.5th percentile of Student's t by degrees of freedom, from 1 to 10; more count as 10
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Estimate(NamedTuple):
    """The mean of a figure over runs, and its standard error."""

    mean: float
    error: float
    runs: int


def estimate(runs: Sequence[NDArray[np.float64]], statistic: Statistic) -> Estimate:
    """Return the mean over runs of a statistic of each run's values.

    Args:
        runs: values of each run in their order, float64; a single one per run will do.
        statistic: figures of the rows of float64 (replicates, values).

    """
    source = np.random.default_rng(SEED)
    figures = np.array([statistic(run[None])[0] for run in runs])
    within = np.mean([_draw_blocks(run, statistic, source).var(ddof=1) for run in runs])
    between = figures.var(ddof=1) if len(runs) > 1 else 0.0
    error = (max(between, within) / len(runs)) ** 0.5
    return Estimate(float(figures.mean()), float(error), len(runs))


def subtract(after: Estimate, before: Estimate) -> tuple[float, float, float]:
    """Return the difference of two means and the limits of its 95 % confidence interval."""
    difference = after.mean - before.mean
    freedom = max(1, after.runs + before.runs - 2)
    factor = STUDENT[min(freedom, len(STUDENT)) - 1]
    margin = factor * float(np.hypot(after.error, before.error))
    return difference, difference - margin, difference + margin


def _draw_blocks(
    values: NDArray[np.float64], statistic: Statistic, source: np.random.Generator
) -> NDArray[np.float64]:
    """Return a statistic of replicates that are made of random blocks of a run, (REPLICATES,)."""
    count = len(values)
    block = min(count, max(SHORTEST_BLOCK, round(count**0.5)))
    blocks = -(-count // block)
    at_once = max(1, MOST_AT_ONCE // count)
    found = []
    for begin in range(0, REPLICATES, at_once):
        rows = min(at_once, REPLICATES - begin)
        starts = source.integers(0, count - block + 1, (rows, blocks, 1))
        places = (starts + np.arange(block)).reshape(rows, -1)[:, :count]
        found.append(statistic(values[places]))
    return np.concatenate(found)
