# SPDX-License-Identifier: Apache-2.0
"""What of a subject's runs can be compared: figures, and the values that they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting.measurement import END_TO_END, INFER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from perception_node.bench.reporting.bootstrap import Statistic
    from perception_node.bench.reporting.measurement import Case, Run

MAIN_STAGES = (END_TO_END, "total", INFER, "start to active")
FEWEST_FOR_P99 = 100  # frames of a run
SHORTEST_MS = 1e-3  # as a histogram has it; a logarithm needs one


class Figure(NamedTuple):
    """One figure of a subject, on both sides.

    Attributes:
        name: what it is, with its unit.
        before: values of each run, float64; a single one where the run is one measurement.
        after: the same of the other report.
        statistic: what is computed of them: a logarithm, or a share.
        is_share: whether it is a share.

    """

    name: str
    before: list[NDArray[np.float64]]
    after: list[NDArray[np.float64]]
    statistic: Statistic
    is_share: bool = False


def find_figures(first: Case, second: Case, subject: str, deadline_ms: float) -> list[Figure]:
    """Return what both cases have of a subject; runs that lack a figure are left out."""
    sides = (first.of(subject), second.of(subject))
    return [
        Figure(name, before, after, statistic, is_share=statistic is mean_of_rows)
        for name, read, statistic in _list_figures(sides[0] + sides[1], deadline_ms)
        for before, after in [[_collect(runs, read) for runs in sides]]
        if before and after
    ]


def find_main_stage(runs: Iterable[Run]) -> str | None:
    """Return the stage that runs are about; None if they have none of those."""
    names = {name for run in runs for name in run.stages}
    return next((name for name in MAIN_STAGES if name in names), None)


def mean_of_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row."""
    return np.asarray(rows.mean(axis=1), np.float64)


def _list_figures(
    runs: list[Run], deadline_ms: float
) -> Iterable[tuple[str, Callable[[Run], NDArray[np.float64]], Statistic]]:
    stage = find_main_stage(runs)
    if stage is not None:
        yield f"{stage} p50, ms", lambda run: _times_ms(run, stage), _log_percentile(50)
        if min(len(_times_ms(run, stage)) for run in runs) >= FEWEST_FOR_P99:
            yield f"{stage} p99, ms", lambda run: _times_ms(run, stage), _log_percentile(99)
    yield "CPU per frame, ms", _cpu_ms, _log_percentile(50)
    yield "frames missed, %", lambda run: _misses(run, deadline_ms), mean_of_rows


def _collect(
    runs: list[Run], read: Callable[[Run], NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    found = [read(run) for run in runs]
    return [values for values in found if len(values)]


def _times_ms(run: Run, stage: str) -> NDArray[np.float64]:
    """Return the times in their order; without a timeline, in the order of their length."""
    ages_ms = np.array(run.timeline.ages_ms, np.float64)
    times_ms = ages_ms[~np.isnan(ages_ms)]
    if not len(times_ms) and stage in run.stages:
        times_ms = np.repeat(*run.stages[stage].distribution())
    return np.maximum(times_ms, SHORTEST_MS)


def _cpu_ms(run: Run) -> NDArray[np.float64]:
    cost_ms = run.resources.get("cpu_ms_per_frame", 0.0)
    return np.array([cost_ms] if cost_ms > 0 else [], np.float64)


def _misses(run: Run, deadline_ms: float) -> NDArray[np.float64]:
    """Return 1 for each frame without an answer in time; none where nobody counted them."""
    if "missed" not in run.counts:
        return np.array([], np.float64)
    ages_ms = np.array(run.timeline.ages_ms, np.float64)
    return np.asarray(~(ages_ms <= deadline_ms), np.float64)


def _log_percentile(percent: float) -> Statistic:
    return lambda rows: np.asarray(np.log(np.percentile(rows, percent, axis=1)), np.float64)
