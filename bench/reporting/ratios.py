# SPDX-License-Identifier: Apache-2.0
"""Ratios of subjects that took turns: they mean something where milliseconds do not.

Bare inference is measured before and after each run; the faster of the two counts, as whatever
made the other slower was not there all the time.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting import targets
from perception_node.bench.reporting.brackets import repeat
from perception_node.bench.reporting.measurement import END_TO_END, INFER, OVERHEAD, OWN_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perception_node.bench.reporting.measurement import Case, Run

OVERHEAD_MS = "overhead p50, ms"
OVER_BARE_MS = "end to end p50 - bare p50, ms"
TO_FLOOR = "end to end p50, node / floor"
LIMIT = "the least p50 / bare p50: (bare + floor) / bare"
GROWTH = "p99, last third / first third"
START = "start to active"
FEWEST_AGES = 100  # per third


class Ratio(NamedTuple):
    """A figure of a case.

    Attributes:
        name: what it is, with its unit if it has one.
        value: the median of the repetitions; of shares, that of all frames.
        low: the lowest of the repetitions.
        high: the highest.
        repetitions: how many there were.

    """

    name: str
    value: float
    low: float
    high: float
    repetitions: int


def compute_ratios(case: Case) -> list[Ratio]:
    """Return what can be said of a case of level node or startup; others have no ratios."""
    if case.level == "startup":
        times = [run.stages[START].percentile_ms(50) for run in case.runs if START in run.stages]
        return list(_summarize(targets.START_MS, times))
    if case.level != "node":
        return []
    node = repeat(case, "node")
    rows = [(name, [compute(run, bare) for run, bare in node]) for name, compute in OF_NODE]
    rows[2:2] = [
        (targets.HIGHEST_RATE, _find_highest_rate(case)),
        (targets.OVERHEAD_TO_NAIVE, _compare(node, repeat(case, "naive"), _over_own_ms)),
        (TO_FLOOR, _compare(repeat(case, "floor"), node, _p50_ms)),
        (LIMIT, [_find_limit(floor, bare) for floor, bare in repeat(case, "floor")]),
    ]
    return [
        _pool_answers(case, ratio) if name == targets.ANSWERED_PERCENT else ratio
        for name, values in rows
        for ratio in _summarize(name, values)
    ]


def _find_highest_rate(case: Case) -> list[float]:
    """Return what a sweep has found, of all cameras; nothing for other cases."""
    bare_ms = case.merged("bare", INFER).percentile_ms(50)
    rate_hz = case.load.get("highest_rate_hz", math.nan) * case.load.get("cameras", 1)
    return [rate_hz * bare_ms / 1e3]


def _compare(
    below: list[tuple[Run, Run | None]],
    above: list[tuple[Run, Run | None]],
    compute: Callable[[Run, Run | None], float],
) -> list[float]:
    """Return what ``above`` has more than ``below`` as a factor, repetition by repetition."""
    return [
        _divide(compute(*second), compute(*first))
        for first, second in zip(below, above, strict=False)
    ]


def _summarize(name: str, values: list[float]) -> Iterable[Ratio]:
    known = [value for value in values if math.isfinite(value)]
    if known:
        yield Ratio(name, median(known), min(known), max(known), len(known))


def _pool_answers(case: Case, ratio: Ratio) -> Ratio:
    """One lost frame in one of three runs is one too many; a median would not show it."""
    counts = [run.counts for run in case.of("node")]
    sent = sum(count.get("sent", 0) for count in counts)
    return ratio._replace(value=100.0 * sum(c.get("answered", 0) for c in counts) / sent)


def _p50_ms(run: Run, _bare: Run | None = None) -> float:
    return _percentile_ms(run, END_TO_END if END_TO_END in run.stages else INFER, 50)


def _p50_to_bare(run: Run, bare: Run | None) -> float:
    return _divide(_p50_ms(run), _bare_ms(bare))


def _p99_to_bare(run: Run, bare: Run | None) -> float:
    return _divide(_percentile_ms(run, END_TO_END, 99), _bare_ms(bare))


def _find_limit(floor: Run, bare: Run | None) -> float:
    """Return what bare inference and bare transport come to: no node of this kind is faster."""
    return _divide(_bare_ms(bare) + _p50_ms(floor), _bare_ms(bare))


def _overhead_ms(run: Run, _bare: Run | None) -> float:
    return _percentile_ms(run, OVERHEAD, 50)


def _own_code_ms(run: Run, _bare: Run | None) -> float:
    return _percentile_ms(run, OWN_CODE, 50)


def _answered_percent(run: Run, _bare: Run | None) -> float:
    sent = run.counts.get("sent", 0)
    return 100.0 * run.counts.get("answered", 0) / sent if sent else math.nan


def _faults(run: Run, _bare: Run | None) -> float:
    return _resource(run, "page_faults_per_frame")


def _cpu_to_bare(run: Run, bare: Run | None) -> float:
    name = "cpu_ms_per_frame"
    return _divide(_resource(run, name), _resource(bare, name))


def _over_bare_ms(run: Run, bare: Run | None) -> float:
    return _percentile_ms(run, END_TO_END, 50) - _bare_ms(bare)


def _over_own_ms(run: Run, _bare: Run | None = None) -> float:
    """The same for every subject: naive infers with more threads, and does not say per frame."""
    return _percentile_ms(run, END_TO_END, 50) - _percentile_ms(run, INFER, 50)


def _overload_ms(run: Run, _bare: Run | None) -> float:
    """What a node that is asked for more than it can do adds to what must be."""
    infer_ms = _percentile_ms(run, INFER, 50)
    if len(run.timeline.times_s) < FEWEST_AGES:
        return math.nan
    period_ms = 1e3 * float(np.median(np.diff(run.timeline.times_s)))
    if infer_ms < period_ms:
        return math.nan
    return (
        _percentile_ms(run, END_TO_END, 99) - 2 * infer_ms - _percentile_ms(run, "transport", 50)
    )


def _growth(run: Run, _bare: Run | None) -> float:
    ages_ms = np.array(run.timeline.ages_ms)
    parts = [part[~np.isnan(part)] for part in np.array_split(ages_ms, 3)]
    if min(len(part) for part in parts) < FEWEST_AGES:
        return math.nan
    return _divide(float(np.percentile(parts[2], 99)), float(np.percentile(parts[0], 99)))


def _bare_ms(bare: Run | None) -> float:
    return math.nan if bare is None else _percentile_ms(bare, INFER, 50)


def _percentile_ms(run: Run, stage: str, percent: float) -> float:
    return run.stages[stage].percentile_ms(percent) if stage in run.stages else math.nan


def _resource(run: Run | None, name: str) -> float:
    return math.nan if run is None else run.resources.get(name, math.nan)


def _divide(above: float, below: float) -> float:
    """Return a quotient that means something: NaN if either is not positive."""
    return above / below if above > 0 and below > 0 else math.nan


OF_NODE: tuple[tuple[str, Callable[[Run, Run | None], float]], ...] = (
    (targets.P50_TO_BARE, _p50_to_bare),
    (targets.P99_TO_BARE, _p99_to_bare),
    (OVERHEAD_MS, _overhead_ms),
    (OVER_BARE_MS, _over_bare_ms),
    (targets.OWN_CODE_MS, _own_code_ms),
    (targets.ANSWERED_PERCENT, _answered_percent),
    (targets.FAULTS, _faults),
    (targets.CPU_TO_BARE, _cpu_to_bare),
    (GROWTH, _growth),
    (targets.OVERLOAD_MS, _overload_ms),
)
