# SPDX-License-Identifier: Apache-2.0
"""The run as one drawing: latencies over time, and below them what was wrong and who noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.hil.lanes import (
    LETTER,
    Segment,
    draw_segments,
    draw_steps,
    draw_unanswered,
    duration_s,
    find_alarms,
    find_faults,
    find_states,
    seconds_into,
    write_words,
)
from perception_node.bench.hil.svg import (
    COLORS,
    Drawing,
    draw_dots,
    set_latency_axis,
    thin_out,
    time_ticks,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.round_trips import RoundTrips

LANE, GAP = 28, 10  # pixels
LATENCIES, TIMES, RIGHT = 290, 28, 22
BARE_TOP, NAMED_TOP = 14, 76  # without and with the names of the faults
TURN_DEGREES, ROOM_FOR_NAME = 40, 17
MOST_ALARM_LANES = 12


class Look(NamedTuple):
    """What differs between a desk and a phone; in pixels."""

    name: str
    width: int
    left: int
    font: float
    dot: float
    ticks: int


WIDE = Look("wide", 1040, 100, 13.0, 3.4, 12)
NARROW = Look("narrow", 400, 82, 12.5, 2.6, 5)


def draw_timeline(
    record: HilRecord,
    trips: RoundTrips,
    calm: NDArray[np.bool_],
    limits_ms: Mapping[str, float],
    look: Look,
) -> str:
    """Return the drawing as an SVG element.

    Args:
        record: what happened.
        trips: of the same record.
        calm: (frames,), those that are judged.
        limits_ms: lines across the latencies, by their names.
        look: for which width.

    """
    faults, width = find_faults(record), look.width - look.left - RIGHT
    marks = [*faults, *(_to_mark(record, step.time_ns, step.what) for step in record.steps)]
    per_second = width / duration_s(record)
    named = _choose_named(marks, per_second)
    top = NAMED_TOP if named else BARE_TOP
    alarms = dict(list(find_alarms(record).items())[:MOST_ALARM_LANES])
    lanes = LANE * (2 + len(alarms))
    height = top + LATENCIES + GAP + lanes + TIMES
    drawing = Drawing(f"timeline-{look.name}", look.width, height)
    above = drawing.add_axes(look.left, top, width, LATENCIES)
    below = drawing.add_axes(look.left, top + LATENCIES + GAP, width, lanes)
    for axes in (above, below):
        axes.set_xlim(0.0, duration_s(record))
        for fault in faults:
            axes.axvspan(*fault[:2], facecolor=COLORS["band"], edgecolor="none", alpha=0.28)
        draw_steps(axes, record)
    _draw_latencies(above, trips, limits_ms, look)
    _write_names(above, named, look)
    draw_unanswered(below, 0, trips, calm, duration_s(record))
    _draw_lanes(below, record, alarms, look)
    return drawing.to_svg("latencies over time, with faults, states and alarms")


def _draw_latencies(
    axes: Axes, trips: RoundTrips, limits_ms: Mapping[str, float], look: Look
) -> None:
    sent_s, latency_ms = trips.sent_s[trips.is_answered], trips.latency_ms[trips.is_answered]
    shown = thin_out(sent_s, latency_ms)
    sent_s, latency_ms = sent_s[shown], latency_ms[shown]
    set_latency_axis(axes, [*latency_ms, *limits_ms.values()], look.font)
    axes.set_xticks([])
    axes.set_ylabel("latency (ms)", fontsize=look.font)
    lowest_ms = min(limits_ms.values(), default=float("inf"))
    draw_dots(axes, sent_s, latency_ms, "point", look.dot)
    is_over = latency_ms > lowest_ms
    draw_dots(axes, sent_s[is_over], latency_ms[is_over], "bad", 1.5 * look.dot)
    for place, name in enumerate(sorted(limits_ms, key=lambda name: -limits_ms[name])):
        axes.axhline(limits_ms[name], color=COLORS["bad"], linewidth=1.6, linestyle=(0, (6, 4)))
        is_highest = place == 0 and len(limits_ms) > 1
        axes.annotate(
            f"{name} {limits_ms[name]:g} ms",
            (1.0, limits_ms[name]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4 if is_highest else -4),
            textcoords="offset points",
            ha="right",
            va="bottom" if is_highest else "top",
            fontsize=look.font,
            color=COLORS["bad"],
            bbox={"facecolor": COLORS["card"], "edgecolor": "none", "pad": 0.5},
        )
    if not len(sent_s):
        axes.text(
            0.5,
            0.5,
            "no frame was answered",
            transform=axes.transAxes,
            color=COLORS["ink"],
            ha="center",
            fontsize=look.font,
        )


def _write_names(axes: Axes, marks: Sequence[Segment], look: Look) -> None:
    for mark in marks:
        axes.annotate(
            mark.word,
            (_middle(mark), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 3),
            textcoords="offset points",
            color=COLORS["ink"],
            rotation=TURN_DEGREES,
            rotation_mode="anchor",
            ha="left",
            va="bottom",
            fontsize=look.font,
        )


def _draw_lanes(
    axes: Axes,
    record: HilRecord,
    alarms: Mapping[str, Sequence[Segment]],
    look: Look,
) -> None:
    end_s, states = duration_s(record), find_states(record)
    per_second = (look.width - look.left - RIGHT) / end_s
    names = ["no answer", "state", *alarms]
    axes.set_ylim(len(names) - 0.5, -0.5)
    letters = int((look.left - 8) / (LETTER * look.font)) + 1
    axes.set_yticks(range(len(names)), [_shorten(n, letters) for n in names], fontsize=look.font)
    axes.hlines(np.arange(len(names)) + 0.5, 0.0, end_s, colors=COLORS["faint"], linewidth=1.0)
    for place, segments in enumerate([states, *alarms.values()], start=1):
        draw_segments(axes, place, segments, end_s)
        write_words(axes, place, segments, per_second, look.font - 1.0)
    times_s, labels = time_ticks(end_s, look.ticks)
    axes.set_xticks(times_s, labels, fontsize=look.font)


def _to_mark(record: HilRecord, time_ns: int, word: str) -> Segment:
    time_s = seconds_into(record, time_ns)
    return Segment(time_s, time_s, word)


def _choose_named(marks: Sequence[Segment], per_second: float) -> list[Segment]:
    """Choose marks whose names do not run into each other; none if most would."""
    chosen: list[Segment] = []
    for mark in sorted(marks, key=_middle):
        if not chosen or (_middle(mark) - _middle(chosen[-1])) * per_second >= ROOM_FOR_NAME:
            chosen.append(mark)
    return chosen if len(chosen) * 2 > len(marks) else []


def _middle(mark: Segment) -> float:
    return (mark.begin_s + mark.end_s) / 2


def _shorten(name: str, letters: int) -> str:
    return name if len(name) <= letters else "…" + name[1 - letters :]
