# SPDX-License-Identifier: Apache-2.0
"""The age of each frame's result, run after run; frames that got none are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.reporting.figure_style import (
    clean,
    color_of,
    draw_deadline,
    set_scale,
    write_names,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from perception_node.bench.reporting.measurement import Case, Timeline

DRAWN = ("node", "naive", "pipeline", "bare")
BESIDE = "naive"
MOST_DOTS, MANY = 20_000, 600
GAP_SHARE = 0.02  # of all the time, between two runs
FAR = 2.2  # a deadline farther above all ages than this would flatten them
LOG_SPREAD = 8.0  # highest age by the median from which on the axis is logarithmic
NAMES_BEGIN, NARROW, NARROWER = 0.93, 0.5, 0.06  # of the width


def draw_ages(axes: Axes, case: Case, deadline_ms: float) -> None:
    """Draw each run of the node beside that of naive; of another subject if there is no node."""
    clean(axes)
    main = next((name for name in DRAWN if name in case.subjects), case.subjects[0])
    subjects = [name for name in (BESIDE, main) if name in case.subjects]
    found = {
        name: [run.timeline for run in case.of(name) if run.timeline.times_s]
        for name in dict.fromkeys(subjects)
    }
    all_ms = {name: _join(timelines) for name, timelines in found.items()}
    known_ms = {name: ages_ms[~np.isnan(ages_ms)] for name, ages_ms in all_ms.items()}
    medians_ms = {
        name: float(np.median(ages_ms)) for name, ages_ms in known_ms.items() if len(ages_ms)
    }
    highest = max(
        (float(ages_ms.max()) for ages_ms in known_ms.values() if len(ages_ms)), default=0.0
    )
    lengths_s = [timeline.times_s[-1] for timeline in found[main]]
    begins_s = np.cumsum([0.0, *(length + GAP_SHARE * sum(lengths_s) for length in lengths_s)])
    shows_deadline = bool(lengths_s) and (not highest or deadline_ms < FAR * highest)
    top = 1.15 * max(highest, deadline_ms if shows_deadline else 0.0, 1e-3)
    for name, timelines in found.items():
        for timeline, begin_s in zip(timelines, begins_s, strict=False):
            _draw_run(axes, timeline, float(begin_s), top, color_of(name))
    ages_ms, middle = all_ms[main], medians_ms.get(main, 0.0)
    set_scale(axes, 0.3 * middle if top > LOG_SPREAD * middle else 0.0, top)
    end_s = _mark_runs(axes, begins_s[:-1], lengths_s)
    if shows_deadline:
        draw_deadline(axes, deadline_ms, end_s)
    words = "no frames"
    if len(ages_ms):
        missed = int(np.sum(~(ages_ms <= deadline_ms)))
        words = f"ms; {main}: {missed} of {len(ages_ms)} missed {deadline_ms:g} ms"
        words += ", x: no answer" if np.isnan(ages_ms).any() else ""
    write_title(axes, "Age of each result", words)
    names = [(name, color_of(name), (end_s, ms)) for name, ms in medians_ms.items() if ms > 0]
    write_names(axes, names, 1.005 * end_s)


def _join(timelines: list[Timeline]) -> NDArray[np.float64]:
    return np.array([age for timeline in timelines for age in timeline.ages_ms], np.float64)


def _draw_run(axes: Axes, timeline: Timeline, begin_s: float, top: float, color: str) -> None:
    times_s = begin_s + np.array(timeline.times_s)
    ages_ms = np.array(timeline.ages_ms)
    lost = np.isnan(ages_ms)
    shown = _thin_out(ages_ms)
    size = 4 if len(ages_ms) >= MANY else 7
    axes.plot(times_s[shown], ages_ms[shown], ".", color=color, markersize=size, alpha=0.55, mew=0)
    heights = np.full(int(lost.sum()), 0.965 * top)
    axes.plot(times_s[lost], heights, "x", color=color, markersize=9, markeredgewidth=2.2)


def _thin_out(ages_ms: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the places to draw: all, or of each block its first and its oldest."""
    if len(ages_ms) <= MOST_DOTS:
        return np.arange(len(ages_ms))
    blocks = np.array_split(np.arange(len(ages_ms)), MOST_DOTS // 2)
    known = np.nan_to_num(ages_ms, nan=-1.0)
    oldest = [block[np.argmax(known[block])] for block in blocks]
    return np.unique([*oldest, *(block[0] for block in blocks)])


def _mark_runs(axes: Axes, begins_s: NDArray[np.float64], lengths_s: list[float]) -> float:
    """Put the name of a run in the middle below it, and how long it took; return the end."""
    if not lengths_s:
        axes.set_xticks([])
        axes.set_yticks([])
        return 1.0
    middles = [
        float(begin) + length / 2 for begin, length in zip(begins_s, lengths_s, strict=True)
    ]
    axes.set_xticks(middles)
    axes.set_xticklabels(
        [f"run {number}, {length:.0f} s" for number, length in enumerate(lengths_s, 1)]
    )
    end = float(begins_s[-1]) + lengths_s[-1]
    is_narrow = axes.get_position().width < NARROW
    axes.set_xlim(-0.005 * end, end / (NAMES_BEGIN - NARROWER * is_narrow))
    return end
