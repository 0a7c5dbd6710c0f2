# SPDX-License-Identifier: Apache-2.0
"""Latency by percentile, as HdrHistogram draws it: the tail gets as much room as the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.reporting.compare import find_main_stage
from perception_node.bench.reporting.figure_style import (
    clean,
    color_of,
    draw_deadline,
    set_scale,
    write_names,
    write_title,
)
from perception_node.bench.reporting.targets import size_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from perception_node.bench.reporting.measurement import Case

TICKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
LOG_SPREAD = 20.0  # highest by lowest value from which on the axis is logarithmic
FAR = 2.2  # a deadline farther above all values than this would flatten them


class Curve(NamedTuple):
    """Latency of a subject; frames without an answer lie beyond its end.

    Attributes:
        subject: whose.
        depths: -log10 of the share of frames that took longer, float64.
        times_ms: as many, ascending.
        unanswered: frames without a result.

    """

    subject: str
    depths: NDArray[np.float64]
    times_ms: NDArray[np.float64]
    unanswered: int


def draw_distributions(places: Sequence[Axes], cases: Sequence[Case], deadline_ms: float) -> None:
    """Draw the curves of each case, all with the same axes."""
    drawn = [list(_find_curves(case)) for case in cases]
    curves = [curve for found in drawn for curve in found]
    # the floor has no inference: it may lie flat at the bottom
    lowest = min((curve.times_ms[0] for curve in curves if curve.subject != "floor"), default=1.0)
    highest = max((curve.times_ms[-1] for curve in curves), default=deadline_ms)
    shows_deadline = cases[0].level != "startup" and deadline_ms < FAR * highest
    top = 1.2 * max(highest, deadline_ms if shows_deadline else 0.0)
    is_log = bool(curves) and top / max(lowest, 1e-3) > LOG_SPREAD
    depth = max((float(curve.depths[-1]) for curve in curves), default=1.0)
    bottom = 0.8 * min((curve.times_ms[0] for curve in curves), default=lowest)
    for number, (axes, case, found) in enumerate(zip(places, cases, drawn, strict=True)):
        set_scale(axes, bottom if is_log else 0.0, top)
        _set_percentiles(axes, depth, is_narrow=len(cases) > 1)
        for curve in found:
            _draw_curve(axes, curve, top)
        _label(axes, found, depth)
        if shows_deadline:
            draw_deadline(axes, deadline_ms, depth)
        write_title(axes, *_name(case, is_one_of_many=len(cases) > 1))
        if number:
            axes.tick_params(labelleft=False)


def _name(case: Case, *, is_one_of_many: bool) -> tuple[str, str]:
    if is_one_of_many:
        return size_name(case) or case.name, "ms by percentile"
    if case.level == "startup":
        return "Process start to active", "ms by percentile"
    return "Latency by percentile", "ms, of all frames sent"


def _find_curves(case: Case) -> Iterable[Curve]:
    for subject in case.subjects:
        runs = case.of(subject)
        stage = find_main_stage(runs)
        durations = case.merged(subject, stage) if stage else None
        if durations is None or not len(durations):
            continue
        values_ms, counts = durations.distribution()
        sent = sum(run.counts.get("sent", 0) for run in runs)
        answered = sum(run.counts.get("answered", 0) for run in runs)
        unanswered = max(0, sent - answered)
        total = len(durations) + unanswered
        above = 1.0 - (np.cumsum(counts) - 0.5) / total
        yield Curve(subject, -np.log10(above), values_ms, unanswered)


def _set_percentiles(axes: Axes, depth: float, *, is_narrow: bool) -> None:
    clean(axes, "both")
    # room for the names at the ends of the curves
    axes.set_xlim(0.0, depth * (1.45 if is_narrow else 1.31))
    ticks = [tick for tick in TICKS if -np.log10(1.0 - tick / 100.0) <= depth]
    axes.set_xticks([-np.log10(1.0 - tick / 100.0) for tick in ticks])
    axes.set_xticklabels(["" if tick == 0.0 else f"p{tick:g}" for tick in ticks])


def _draw_curve(axes: Axes, curve: Curve, top: float) -> None:
    color = color_of(curve.subject)
    width = 3.2 if curve.subject in {"node", "pipeline"} else 2.2
    depths, times_ms = curve.depths, curve.times_ms
    if curve.unanswered:
        depths, times_ms = np.append(depths, depths[-1]), np.append(times_ms, 10 * top)
    axes.plot(depths, times_ms, color=color, linewidth=width, solid_capstyle="round")


def _label(axes: Axes, curves: list[Curve], depth: float) -> None:
    names = []
    for curve in curves:
        words = curve.subject
        if curve.unanswered:
            words += f"\n{curve.unanswered} unanswered"
        end = (float(curve.depths[-1]), float(curve.times_ms[-1]))
        if curve.unanswered:
            end = (end[0], axes.get_ylim()[1])
        names.append((words, color_of(curve.subject), end))
    write_names(axes, names, 1.03 * depth)
