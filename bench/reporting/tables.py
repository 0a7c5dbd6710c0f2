# SPDX-License-Identifier: Apache-2.0
"""What a report says, as rows of text: the same on a terminal and in Markdown."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import OTHER_THREADS
from perception_node.bench.reporting.ratios import compute_ratios, find_remarks
from perception_node.bench.reporting.targets import ANSWERED_PERCENT, find_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from perception_node.bench.reporting.measurement import Case, Report, Run
    from perception_node.bench.reporting.ratios import Ratio
    from perception_node.bench.reporting.targets import Target

NONE = "—"
FEWER_DIGITS = (100.0, 1000.0)  # ms from which on there is one less
# fewer frames say nothing about this percentile
NEEDED = {90: 10, 99: 100, 99.9: 1000}
RESOURCES = {
    "cpu_ms_per_frame": "CPU per frame, ms",
    OTHER_THREADS: "CPU beside the busiest thread per image, ms",
    "page_faults_per_frame": "page faults per frame",
    "memory_mib": "memory, MiB",
    "involuntary_switches_per_frame": "involuntary switches per frame",
}
BOUND_NOTE = (
    "p99 at most: what the 99th percentile is at most, with 99 % confidence (binomial; it counts "
    "frames as independent and needs 459 of them). Stages of all runs together, in ms; answered "
    "frames alone."
)


class Table(NamedTuple):
    """Rows of text under headers; the first column is left-aligned, the others are numbers."""

    title: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Section(NamedTuple):
    """One case: its tables, and why its runs are not to be trusted."""

    title: str
    tables: list[Table]
    remarks: list[str]


def list_warnings(report: Report) -> list[str]:
    """Return why the report is not to be trusted as a whole."""
    partial = [] if report.complete else ["partial: the benchmark was interrupted"]
    return [*partial, *report.warnings]


def list_sections(report: Report) -> list[Section]:
    """Return what was measured, case by case."""
    return [
        Section(case.name, list(_list_tables(case, report.deadline_ms)), find_remarks(case))
        for case in report.cases
    ]


def describe_ms(value_ms: float) -> str:
    """Return milliseconds with three digits or so; a dash for NaN."""
    if math.isnan(value_ms):
        return NONE
    return f"{value_ms:.{2 - sum(value_ms >= limit for limit in FEWER_DIGITS)}f}"


def percentile_text(durations: Durations, percent: float) -> str:
    """Return a percentile in milliseconds; a dash where there are too few durations for it."""
    if len(durations) < NEEDED.get(percent, 1):
        return NONE
    return describe_ms(durations.percentile_ms(percent))


def _list_tables(case: Case, deadline_ms: float) -> Iterable[Table]:
    for subject in case.subjects:
        yield _list_stages(case, subject, deadline_ms)
    for table in (
        _list_cameras(case, deadline_ms),
        _list_frames(case),
        _list_resources(case),
        _list_ratios(case),
    ):
        if table.rows:
            yield table


def _list_stages(case: Case, subject: str, deadline_ms: float) -> Table:
    names = dict.fromkeys(name for run in case.of(subject) for name in run.stages)
    runs = len(case.of(subject))
    headers = ["p50", "p90", "p99", "p99 at most", "p99.9", "max", "mean", "count"]
    if case.level != "startup":  # no frame is waiting for it
        headers.append(f"over {deadline_ms:g} ms")
    rows = [_describe_stage(name, case.merged(subject, name), deadline_ms) for name in names]
    return Table(
        f"{subject}, {runs} run{'s' if runs > 1 else ''}, ms",
        ("stage", *headers),
        [row[: len(headers) + 1] for row in rows],
    )


def _describe_stage(name: str, durations: Durations, deadline_ms: float) -> tuple[str, ...]:
    values_ms, counts = durations.distribution()
    return (
        name,
        percentile_text(durations, 50),
        percentile_text(durations, 90),
        percentile_text(durations, 99),
        describe_ms(durations.upper_bound_ms(99)),
        percentile_text(durations, 99.9),
        percentile_text(durations, 100),
        describe_ms(durations.summarize().mean_ms),
        str(len(durations)),
        str(int(counts[values_ms > deadline_ms].sum())),
    )


def _list_cameras(case: Case, deadline_ms: float) -> Table:
    """Say whether cameras that share a node get the same of it."""
    cameras = _split_by_camera(case)
    answered = [ages_ms[~np.isnan(ages_ms)] for ages_ms in cameras]
    total = sum(map(len, answered))
    rows = []
    for number, (sent, ages_ms) in enumerate(zip(cameras, answered, strict=True), 1):
        durations = Durations(round(age_ms * 1e6) for age_ms in ages_ms)
        rows.append(
            (
                f"camera {number}",
                str(len(sent)),
                str(len(ages_ms)),
                f"{100.0 * len(ages_ms) / total:.1f}" if total else NONE,
                *(percentile_text(durations, percent) for percent in (50, 99, 100)),
                str(int(np.sum(ages_ms > deadline_ms))),
            )
        )
    late = f"late (over {deadline_ms:g} ms)"
    headers = ("camera", "sent", "answered", "share of the answers, %", "p50", "p99", "max", late)
    return Table("node, each camera, end to end in ms", headers, rows)


def _split_by_camera(case: Case) -> list[NDArray[np.float64]]:
    """Return the ages of each camera's frames of the node in ms, NaN where no result came.

    The schedule tells which is of which, as cameras are evenly staggered. Empty for a case of
    another level than node, or of one camera.
    """
    cameras, timelines = case.load.get("cameras", 1), [run.timeline for run in case.of("node")]
    if case.level != "node" or cameras == 1 or not timelines:
        return []
    times_s = np.concatenate([timeline.times_s for timeline in timelines])
    ages_ms = np.concatenate([timeline.ages_ms for timeline in timelines])
    numbers = np.rint(times_s * case.load["rate_hz"] * cameras).astype(int) % cameras
    return [ages_ms[numbers == camera] for camera in range(cameras)]


def _list_frames(case: Case) -> Table:
    names = tuple(dict.fromkeys(name for run in case.runs for name in run.counts))
    rows = _collect(case, names, lambda run: run.counts, lambda counts: f"{sum(counts)}")
    return Table("frames", ("subject", *names), rows)


def _list_resources(case: Case) -> Table:
    names = [name for name in RESOURCES if any(name in run.resources for run in case.runs)]
    rows = _collect(case, names, lambda run: run.resources, lambda used: f"{median(used):.2f}")
    headers = ("subject", *(RESOURCES[name] for name in names))
    return Table("cost, median of the runs", headers, rows)


def _collect(
    case: Case,
    names: Sequence[str],
    read: Callable[[Run], Mapping[str, float]],
    describe: Callable[[list[float]], str],
) -> list[tuple[str, ...]]:
    """Return a row for each subject that has any of these: what its runs have of each."""
    rows = []
    for subject in case.subjects:
        known = [[read(r)[name] for r in case.of(subject) if name in read(r)] for name in names]
        if any(known):
            rows.append((subject, *(describe(values) if values else NONE for values in known)))
    return rows


def _list_ratios(case: Case) -> Table:
    targets = find_targets(case)
    rows = [_describe_ratio(ratio, targets.get(ratio.name)) for ratio in compute_ratios(case)]
    headers = ("figure", "median", "lowest to highest", "runs", "target", "")
    return Table("ratios and targets", headers, rows)


def _describe_ratio(ratio: Ratio, target: Target | None) -> tuple[str, ...]:
    shown = [ratio.value, ratio.low, ratio.high]
    if ratio.name == ANSWERED_PERCENT:  # 100 % are answered only if all are
        shown = [math.floor(100.0 * value) / 100.0 for value in shown]
    verdict = ("", "")
    if target is not None:
        is_reached = target.is_reached(ratio.value)
        verdict = (target.describe(), "reached" if is_reached else "not reached")
    value, low, high = (f"{number:.2f}" for number in shown)
    return (ratio.name, value, f"{low} to {high}", str(ratio.repetitions), *verdict)
