# SPDX-License-Identifier: Apache-2.0
"""Colours and letters of the figure; colours after Okabe and Ito, told apart by all eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

INK, MUTED, FAINT = "#1c1d1f", "#66696f", "#e3e3de"
BAD = "#b3001b"
SUBJECT_COLORS = {
    "node": "#0072B2",
    "naive": "#D55E00",
    "floor": "#009E73",
    "bare": "#5c5c5c",
    "pipeline": "#0072B2",
    "startup": "#0072B2",
}
OTHER_COLOR = "#CC79A7"
LINE_HEIGHT = 0.087  # of a panel: a line of text with some air
HIGHEST_NAME = 0.98  # the middle of a name: below the title
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 16, 13.5, 13


def color_of(subject: str) -> str:
    """Return the colour of a subject."""
    return SUBJECT_COLORS.get(subject, OTHER_COLOR)


def clean(axes: Axes, grid: Literal["x", "y", "both"] = "y") -> None:
    """Leave only what helps to read the values: a faint grid and one axis."""
    axes.set_axisbelow(b=True)
    axes.grid(visible=True, axis=grid, color=FAINT, linewidth=1.0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(labelsize=TICK_SIZE, colors=MUTED, length=0)


def write_title(axes: Axes, title: str, words: str) -> None:
    """Write what a panel shows above it: bold, then how it is to be read."""
    bold = axes.annotate(
        title,
        (0, 1),
        (0, 14),
        xycoords="axes fraction",
        textcoords="offset points",
        va="bottom",
        fontsize=TITLE_SIZE,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )
    axes.annotate(
        words,
        (1, 0),
        (10, 0),
        xycoords=bold,
        textcoords="offset points",
        va="bottom",
        fontsize=LABEL_SIZE,
        color=MUTED,
        parse_math=False,
    )


def write_names(
    axes: Axes, names: Iterable[tuple[str, str, tuple[float, float]]], column: float
) -> None:
    """Write names below each other in a column, so that they do not touch, joined to their points.

    Args:
        axes: where; its limits are set.
        names: text, colour and point (in the units of the axes) of each.
        column: where the names begin, in the units of the axes.

    """
    to_share = axes.transData + axes.transAxes.inverted()
    rows = sorted(names, key=lambda name: name[2][1])
    points = [tuple(map(float, to_share.transform(point))) for _, _, point in rows]
    begin = float(to_share.transform((column, points[0][1] if points else 0.0))[0])
    halves = [LINE_HEIGHT * (text.count("\n") + 1) / 2 for text, _, _ in rows]
    heights = _spread([min(y, HIGHEST_NAME) for _, y in points], halves)
    for (text, ink, _), point, height in zip(rows, points, heights, strict=True):
        start = (point[0] + 0.005, min(point[1], 1.0))
        axes.plot(
            *zip(start, (begin + 0.004, height), strict=True),
            transform=axes.transAxes,
            color=ink,
            linewidth=1.0,
            linestyle=":",
            clip_on=False,
        )
        axes.text(
            begin + 0.01,
            height,
            text,
            transform=axes.transAxes,
            color=ink,
            fontsize=LABEL_SIZE,
            fontweight="bold",
            va="center",
            linespacing=1.05,
            parse_math=False,
        )


def _spread(heights: list[float], halves: list[float]) -> list[float]:
    """Move ascending heights apart: upwards first, then down from the top."""
    free, spread = 0.0, []
    for height, half in zip(heights, halves, strict=True):
        spread.append(max(height, free + half))
        free = spread[-1] + half
    ceiling = HIGHEST_NAME + LINE_HEIGHT / 2
    for place in reversed(range(len(spread))):
        spread[place] = min(spread[place], ceiling - halves[place])
        ceiling = spread[place] - halves[place]
    return spread


def draw_deadline(axes: Axes, deadline_ms: float, end: float) -> None:
    """Draw the deadline from the left to ``end``, its name above it."""
    begin = axes.get_xlim()[0]
    axes.plot((begin, end), (deadline_ms,) * 2, color=BAD, linewidth=1.8, linestyle=(0, (6, 4)))
    axes.annotate(
        f"deadline {deadline_ms:g} ms",
        (begin, deadline_ms),
        (4, 3),
        textcoords="offset points",
        va="bottom",
        fontsize=LABEL_SIZE,
        color=BAD,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
    )


def set_scale(axes: Axes, lowest: float, highest: float) -> None:
    """Set the vertical axis: from 0 on, or logarithmic with plain numbers."""
    if not lowest:
        axes.set_ylim(0.0, highest)
        return
    axes.set_yscale("log")
    axes.set_ylim(lowest, highest * 1.1)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
