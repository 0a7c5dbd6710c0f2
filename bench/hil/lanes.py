# SPDX-License-Identifier: Apache-2.0
"""Lanes below the latencies: frames without an answer, the device's state, its alarms, steps.

Each kind has its own place or hatching, so that it can be read without colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.hil.svg import COLORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.round_trips import RoundTrips

COLUMNS = 500  # of the lane of frames without an answer
HALF = 0.36  # of a lane's height, above and below its middle
LETTER = 0.62  # width of a letter as part of its height
NARROWEST = 0.0025  # of the whole, so that what is short is seen
LEVELS = {"WARN": ("warn", "////"), "ERROR": ("bad", ""), "STALE": ("muted", "---")}
STATES = {"active": ("calm", ""), "unreachable": ("bad", "xxxx")}
OTHER_STATE = ("muted", "////")


class Segment(NamedTuple):
    """Something that lasts, in seconds since the camera began."""

    begin_s: float
    end_s: float
    word: str


def duration_s(record: HilRecord) -> float:
    """Return how long the camera played."""
    return max((record.end_ns - record.begin_ns) / SECOND_NS, 1e-3)


def seconds_into(record: HilRecord, time_ns: int) -> float:
    """Return a moment as seconds since the camera began, within the run."""
    return min(max(0.0, (time_ns - record.begin_ns) / SECOND_NS), duration_s(record))


def find_faults(record: HilRecord) -> list[Segment]:
    """Return when which fault was on."""
    return [
        Segment(seconds_into(record, i.begin_ns), seconds_into(record, i.end_ns), str(i.fault))
        for i in record.faults
        if i.begin_ns < record.end_ns
    ]


def find_states(record: HilRecord) -> list[Segment]:
    """Return the device's states."""
    changes = [(change.time_ns, change.state) for change in record.states]
    return _to_segments(record, changes)


def find_alarms(record: HilRecord) -> dict[str, list[Segment]]:
    """Return when each row of /diagnostics was not OK; rows that always were are left out."""
    changes: dict[str, list[tuple[int, str]]] = {}
    for change in record.diagnostics:
        changes.setdefault(change.row, []).append((change.time_ns, change.level))
    segments = {row: _to_segments(record, of_row) for row, of_row in changes.items()}
    alarms = {row: [s for s in of_row if s.word in LEVELS] for row, of_row in segments.items()}
    return {row: of_row for row, of_row in alarms.items() if of_row}


def draw_unanswered(
    axes: Axes, place: int, trips: RoundTrips, calm: NDArray[np.bool_], end_s: float
) -> None:
    """Draw which share of the frames of each moment got no answer, as height.

    Those that are judged are filled, those that have an excuse are striped.
    """
    edges = np.linspace(0.0, end_s, min(COLUMNS, max(10, len(trips.sent_s) // 2)) + 1)
    sent, _ = np.histogram(trips.sent_s, edges)
    for chosen, color, hatch in (
        (calm | ~calm, "muted", "////"),
        (calm, "bad", ""),
    ):
        missing, _ = np.histogram(trips.sent_s[chosen & ~trips.is_answered], edges)
        share = missing / np.maximum(sent, 1)
        axes.fill_between(
            edges,
            place + HALF,
            place + HALF - 2 * HALF * np.append(share, 0.0),
            step="post",
            facecolor=COLORS[color] if not hatch else "none",
            edgecolor=COLORS[color],
            hatch=hatch,
            linewidth=0.0,
        )


def draw_segments(axes: Axes, place: int, segments: Sequence[Segment], end_s: float) -> None:
    """Draw states or alarms as bars."""
    for segment in segments:
        color, hatch = LEVELS.get(segment.word) or STATES.get(segment.word, OTHER_STATE)
        width_s = max(segment.end_s - segment.begin_s, NARROWEST * end_s)
        axes.broken_barh(
            [(segment.begin_s, width_s)],
            (place - HALF, 2 * HALF),
            facecolor="none" if hatch else COLORS[color],
            edgecolor=COLORS[color],
            hatch=hatch,
            linewidth=1.0,
        )


def write_words(
    axes: Axes, place: int, segments: Sequence[Segment], pixels_per_s: float, font: float
) -> None:
    """Write each segment's word into it, where there is room."""
    for segment in segments:
        room = (segment.end_s - segment.begin_s) * pixels_per_s
        if room < (len(segment.word) + 1) * LETTER * font:
            continue
        axes.text(
            (segment.begin_s + segment.end_s) / 2,
            place,
            segment.word,
            fontsize=font,
            color=COLORS["ink"],
            ha="center",
            va="center_baseline",
            bbox={"facecolor": COLORS["card"], "edgecolor": "none", "pad": 1.5},
        )


def draw_steps(axes: Axes, record: HilRecord) -> None:
    """Mark the steps that were taken with lines."""
    for step in record.steps:
        style = "-" if not step.problem else ":"
        time_s = seconds_into(record, step.time_ns)
        axes.axvline(time_s, color=COLORS["ink"], linewidth=1.2, linestyle=style)


def _to_segments(record: HilRecord, changes: Sequence[tuple[int, str]]) -> list[Segment]:
    ends_ns = [*(time_ns for time_ns, _ in changes[1:]), record.end_ns]
    segments = [
        Segment(seconds_into(record, begin_ns), seconds_into(record, end_ns), word)
        for (begin_ns, word), end_ns in zip(changes, ends_ns, strict=False)
    ]
    return [segment for segment in segments if segment.end_s > segment.begin_s]
