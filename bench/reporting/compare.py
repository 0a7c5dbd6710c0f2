# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: what became slower, and whether that is more than noise.

Only what is ours is judged. Bare inference, naive and floor of the node level are shown, because
they tell a slower machine from a slower node.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting.bootstrap import estimate, subtract
from perception_node.bench.reporting.measurement import END_TO_END, INFER
from perception_node.bench.reporting.merging import describe_machine
from perception_node.errors import ConfigError, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from perception_node.bench.reporting.bootstrap import Statistic
    from perception_node.bench.reporting.measurement import Case, Report, Run


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
    """Return 1 for each frame without an answer in time; none where they were not counted."""
    if "missed" not in run.counts:
        return np.array([], np.float64)
    ages_ms = np.array(run.timeline.ages_ms, np.float64)
    return np.asarray(~(ages_ms <= deadline_ms), np.float64)


def _log_percentile(percent: float) -> Statistic:
    return lambda rows: np.asarray(np.log(np.percentile(rows, percent, axis=1)), np.float64)


OURS = {("engine", "bare"), ("pipeline", "pipeline"), ("node", "node"), ("startup", "startup")}
FEWEST_RUNS = 2
MAX_MORE_MISSED = 0.01  # of all frames: a ratio of shares near zero says nothing
LIMIT = re.compile(r"(?P<percent>[0-9]{1,3}(\.[0-9]+)?)%|(?P<share>0?\.[0-9]+)")


class Difference(NamedTuple):
    """One figure of one subject in both reports.

    Attributes:
        case: name of the case.
        subject: who was measured.
        figure: what was measured, with its unit.
        before: of the first report, the (geometric) mean over runs.
        after: of the second.
        change: how much more it is, as a share of ``before``; of missed frames, which are a share
            themselves, the plain difference.
        low: lower end of the 95 % confidence interval of ``change``; NaN where runs are too few.
        high: the upper end.
        is_regression: it is ours, it is more than allowed, and that is not noise.
        verdict: the same in words.

    """

    case: str
    subject: str
    figure: str
    before: float
    after: float
    change: float
    low: float
    high: float
    is_regression: bool
    verdict: str


def compare(before: Report, after: Report, max_regression: float) -> list[Difference]:
    """Return the differences of all cases that both reports have.

    Args:
        before: what is compared with.
        after: what may have become slower.
        max_regression: the share by which a figure may grow, such as 0.05. Of all frames, one in
            a hundred more may be missed.

    Raises:
        ConfigError: no case is in both, or none has enough runs to tell change from noise.

    """
    pairs = [
        (first, second, subject)
        for first, second in _pair(before, after)
        for subject in first.subjects
        if subject in second.subjects
    ]
    if not pairs:
        names = "; ".join(sorted({case.name for case in (*before.cases, *after.cases)})) or "none"
        raise ConfigError(f"the reports have no case and subject in common; cases: {names}")
    ours = [pair for pair in pairs if (pair[0].level, pair[2]) in OURS] or pairs
    if all(min(len(a.of(who)), len(b.of(who))) < FEWEST_RUNS for a, b, who in ours):
        raise ConfigError("one run cannot tell change from noise; repeat both with --runs 3")
    return [
        _judge(first, subject, figure, max_regression)
        for first, second, subject in pairs
        for figure in find_figures(first, second, subject, before.deadline_ms)
    ]


def find_caveats(before: Report, after: Report) -> list[str]:
    """Return why a comparison says less than it seems to, one line each."""
    others = _identify(after)
    caveats = [
        f"different {what}: {found} | {others[what]}"
        for what, found in _identify(before).items()
        if found != others[what]
    ]
    for which, report, other in (("first", before, after), ("second", after, before)):
        keys = [(case.level, case.load) for case in other.cases]
        only = [case.name for case in report.cases if (case.level, case.load) not in keys]
        caveats += [f"only in the {which} report, not judged: {name}" for name in only]
        if not report.complete:
            caveats.append(f"the {which} report is partial: it was interrupted")
    return caveats


def parse_max_regression(text: str) -> float:
    """Return the share that ``5%`` or ``0.05`` is.

    Raises:
        ConfigError: it is something else, or more than 100 %.

    """
    match = LIMIT.fullmatch(text.strip())
    share = math.inf
    if match is not None:
        percent = match["percent"]
        share = float(percent) / 100.0 if percent else float(match["share"])
    if share > 1.0:
        msg = f"--max-regression must be 0% to 100%, such as 5% or 0.05, found {quote(text)}"
        raise ConfigError(msg)
    return share


def _identify(report: Report) -> dict[str, str]:
    return {
        "machines": describe_machine(report.machine),
        "models": ", ".join(report.model.values()),
        "deadlines": f"{report.deadline_ms:g} ms",
    }


def _pair(before: Report, after: Report) -> Iterable[tuple[Case, Case]]:
    for first in before.cases:
        for second in after.cases:
            if (first.level, first.load) == (second.level, second.load):
                yield first, second
                break


def _judge(case: Case, subject: str, figure: Figure, max_regression: float) -> Difference:
    before, after = (estimate(runs, figure.statistic) for runs in (figure.before, figure.after))
    change, low, high = subtract(after, before)
    values = (before.mean, after.mean)
    if not figure.is_share:
        change, low, high = (math.expm1(min(value, 99.0)) for value in (change, low, high))
        values = (math.exp(before.mean), math.exp(after.mean))
    has_enough = min(before.runs, after.runs) >= FEWEST_RUNS
    if not has_enough:
        low = high = math.nan
    allowed = MAX_MORE_MISSED if figure.is_share else max_regression
    is_ours = (case.level, subject) in OURS
    is_regression = is_ours and change > allowed and low > 0
    verdict = _describe(low, high, is_regression=is_regression) if has_enough else "one run only"
    if not is_ours:
        verdict = f"{verdict.partition(',')[0]} (not judged)"
    return Difference(
        case.name, subject, figure.name, *values, change, low, high, is_regression, verdict
    )


def _describe(low: float, high: float, *, is_regression: bool) -> str:
    if is_regression:
        return "REGRESSION"
    if low > 0:
        return "more, within what is allowed"
    return "less" if high < 0 else "no change beyond noise"
