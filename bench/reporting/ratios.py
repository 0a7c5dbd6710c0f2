# SPDX-License-Identifier: Apache-2.0
"""Ratios of subjects that took turns: they mean something where milliseconds do not.

Bare inference is measured before and after each turn; the faster of the two counts, as whatever
made the other slower was not there all the time. All of a ratio comes from one turn.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting import targets
from perception_node.bench.reporting.measurement import (
    END_TO_END,
    INFER,
    OTHER_THREADS,
    OVERHEAD,
    OWN_CODE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perception_node.bench.reporting.measurement import Case, Run

    Turn = Mapping[str, Run]


STEADY_CHANGE = 0.15


def split_turns(case: Case) -> list[dict[str, Run]]:
    """Return the runs of each turn by their subject; ``bare`` is the faster one around the turn.

    A turn ends where bare inference, or a subject that it has already, comes next.
    """
    turns: list[dict[str, Run]] = []
    is_open = False
    for place, run in enumerate(case.runs):
        if run.subject == "bare":
            is_open = False
            continue
        if not is_open or run.subject in turns[-1]:
            bare = _bracket(case, place)
            turns.append({"bare": min(bare, key=_infer_ms)} if bare else {})
        turns[-1][run.subject] = run
        is_open = True
    return turns


def _bracket(case: Case, place: int) -> list[Run]:
    """Return the last bare run before a place and the first after it, where there are any."""
    before = [run for run in case.runs[:place] if run.subject == "bare"]
    after = [run for run in case.runs[place + 1 :] if run.subject == "bare"]
    return [run for run in before[-1:] + after[:1] if INFER in run.stages]


def find_remarks(case: Case) -> list[str]:
    """Return why runs of a case are not to be trusted, one line for each reason."""
    found: dict[str, list[str]] = {}
    for subject in case.subjects:
        places = [place for place, run in enumerate(case.runs) if run.subject == subject]
        for number, place in enumerate(places, 1):
            for remark in (*case.runs[place].remarks, *_remark_on_bare(case, place)):
                found.setdefault(remark, []).append(f"{subject} {number}")
    return [f"{', '.join(runs)}: {remark}" for remark, runs in found.items()]


def _remark_on_bare(case: Case, place: int) -> Iterable[str]:
    around = [] if case.runs[place].subject == "bare" else _bracket(case, place)
    for before_ms, after_ms in pairwise(map(_infer_ms, around)):
        change = after_ms / before_ms - 1.0 if before_ms > 0 else math.nan
        if abs(change) > STEADY_CHANGE:
            yield f"bare inference changed by {change:+.0%} from before to after"


def _infer_ms(bare: Run) -> float:
    return bare.stages[INFER].percentile_ms(50)


P50_TO_BARE = "end to end p50 / bare p50"
P99_TO_BARE = "end to end p99 / bare p50"
OVERHEAD_MS = "overhead p50, ms"
OVER_BARE_MS = "end to end p50 - bare p50, ms"
GROWTH = "p99, last third / first third"
START = "start to active"
FEWEST_AGES = 100  # for a 99th percentile
OVERLOAD_SHARE = 0.1  # of the images superseded: less is a hiccup


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
    turns = [turn for turn in split_turns(case) if "node" in turn]
    rows = _list_values(_compare(turn) for turn in turns)
    rows.append((targets.HIGHEST_RATE, _find_highest_rate(case)))
    if case.load.get("cameras", 1) == 1:  # several wait for each other
        rows += _list_values(
            _find_overload(turn) for turn in turns if _is_overloaded(turn["node"])
        )
    return [
        _pool_answers(case, ratio) if name == targets.ANSWERED_PERCENT else ratio
        for name, values in rows
        for ratio in _summarize(name, values)
    ]


def _list_values(figures: Iterable[dict[str, float]]) -> list[tuple[str, list[float]]]:
    """Return the values of all turns by the name of the figure."""
    found: dict[str, list[float]] = {}
    for of_turn in figures:
        for name, value in of_turn.items():
            found.setdefault(name, []).append(value)
    return list(found.items())


def _find_highest_rate(case: Case) -> list[float]:
    """Return what a sweep has found, of all cameras; nothing for other cases."""
    bare_ms = case.merged("bare", INFER).percentile_ms(50)
    rate_hz = case.load.get("highest_rate_hz", math.nan) * case.load.get("cameras", 1)
    return [rate_hz * bare_ms / 1e3]


def _summarize(name: str, values: list[float]) -> Iterable[Ratio]:
    known = [value for value in values if math.isfinite(value)]
    if known:
        yield Ratio(name, median(known), min(known), max(known), len(known))


def _pool_answers(case: Case, ratio: Ratio) -> Ratio:
    """One lost frame in one of three runs is one too many; a median would not show it."""
    counts = [run.counts for run in case.of("node")]
    sent = sum(count.get("sent", 0) for count in counts)
    return ratio._replace(value=100.0 * sum(c.get("answered", 0) for c in counts) / sent)


def _compare(turn: Turn) -> dict[str, float]:
    """Return the figures of a turn, NaN where it lacks something.

    What bare inference and bare transport come to is the least that a node takes. The overhead of
    the naive node is without its own inference, as it infers with more threads and does not say
    how long per frame; that of the node is computed in the same way where both are compared.
    """
    node = turn["node"]
    sent, answered = (node.counts.get(name, 0) for name in ("sent", "answered"))
    node_p50, node_p99 = (_percentile_ms(turn, "node", END_TO_END, p) for p in (50, 99))
    bare_p50, bare_p99 = (_percentile_ms(turn, "bare", INFER, p) for p in (50, 99))
    floor_p50, floor_p99 = (_percentile_ms(turn, "floor", END_TO_END, p) for p in (50, 99))
    naive_p50 = _percentile_ms(turn, "naive", END_TO_END, 50)
    naive_ms = naive_p50 - _percentile_ms(turn, "naive", INFER, 50)
    cpu_ms, bare_cpu_ms = (_resource(turn, one, "cpu_ms_per_frame") for one in ("node", "bare"))
    return {
        targets.P50_TO_LIMIT: _divide(node_p50, bare_p50 + floor_p50),
        targets.P99_TO_LIMIT: _divide(node_p99, bare_p99 + floor_p99),
        P50_TO_BARE: _divide(node_p50, bare_p50),
        P99_TO_BARE: _divide(node_p99, bare_p50),
        targets.OVERHEAD_TO_NAIVE: _divide(
            naive_ms, node_p50 - _percentile_ms(turn, "node", INFER, 50)
        ),
        OVERHEAD_MS: _percentile_ms(turn, "node", OVERHEAD, 50),
        OVER_BARE_MS: node_p50 - bare_p50,
        targets.OWN_CODE_MS: _percentile_ms(turn, "node", OWN_CODE, 50),
        targets.ANSWERED_PERCENT: 100.0 * answered / sent if sent else math.nan,
        targets.FAULTS: _resource(turn, "node", "page_faults_per_frame"),
        targets.CPU_TO_BARE: _divide(cpu_ms, bare_cpu_ms),
        GROWTH: _measure_growth(node),
    }


def _measure_growth(node: Run) -> float:
    parts = np.array_split(np.array(node.timeline.ages_ms), 3)
    known = [part[~np.isnan(part)] for part in parts]
    if min(len(part) for part in known) < FEWEST_AGES:
        return math.nan
    return _divide(float(np.percentile(known[2], 99)), float(np.percentile(known[0], 99)))


def _find_overload(turn: Turn) -> dict[str, float]:
    """Return what a node that is asked for more than it can do adds to what must be.

    The thread that infers never sees an image that is superseded, so what such an image costs is
    what the node adds to receiving it beside that thread.
    """
    infer_ms = _percentile_ms(turn, "node", INFER, 50)
    must_ms = 2 * infer_ms + _percentile_ms(turn, "node", "transport", 50)
    node_ms, floor_ms = (_resource(turn, one, OTHER_THREADS) for one in ("node", "floor"))
    return {
        targets.OVERLOAD_MS: _percentile_ms(turn, "node", END_TO_END, 99) - must_ms,
        targets.SUPERSEDED_MS: node_ms - floor_ms,
    }


def _is_overloaded(node: Run) -> bool:
    counts = node.counts
    is_long = counts.get("answered", 0) >= FEWEST_AGES
    return is_long and counts.get("superseded", 0) >= OVERLOAD_SHARE * counts["sent"]


def _percentile_ms(turn: Turn, subject: str, stage: str, percent: float) -> float:
    stages = turn[subject].stages if subject in turn else {}
    return stages[stage].percentile_ms(percent) if stage in stages else math.nan


def _resource(turn: Turn, subject: str, name: str) -> float:
    return turn[subject].resources.get(name, math.nan) if subject in turn else math.nan


def _divide(above: float, below: float) -> float:
    """Return a quotient that means something: NaN if either is not positive."""
    return above / below if above > 0 and below > 0 else math.nan
