# SPDX-License-Identifier: Apache-2.0
"""Matplotlib's drawings as SVG inside a page, in the page's own colours, light and dark.

Matplotlib knows no CSS variables. Each colour is therefore drawn as a stand-in that is replaced
by its variable afterwards.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

POINTS_PER_INCH = 72.0
MOST_POINTS, POINTS_PER_COLUMN = 6000, 6
NAMES = ("ink", "muted", "faint", "card", "point", "good", "bad", "warn", "band", "calm")
COLORS = {name: f"#0b0d{number:02x}" for number, name in enumerate(NAMES, start=16)}
STYLE: dict[Any, Any] = {  # matplotlib types each key
    "svg.fonttype": "none",  # text stays text
    "path.simplify": False,  # each point is drawn
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": COLORS["faint"],
    "axes.labelcolor": COLORS["muted"],
    "axes.axisbelow": True,
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "grid.color": COLORS["faint"],
    "grid.linewidth": 1.0,
    "hatch.linewidth": 1.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
FEW_TICKS, MANY_TICKS = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
NARROW_RATIO = 8.0
LONG_S = 120.0  # from here on, times are minutes and seconds
STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


class Drawing:
    """A figure of a size in pixels that becomes an SVG element."""

    def __init__(self, name: str, width: int, height: int) -> None:
        """Prepare; ``name`` makes its ids its own, as several share a page."""
        self._name = name
        with mpl.rc_context(STYLE):
            self.figure = Figure((width / POINTS_PER_INCH, height / POINTS_PER_INCH))
        self.width, self.height = width, height

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a place in pixels from the upper left corner."""
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        with mpl.rc_context(STYLE):
            axes = self.figure.add_axes(place)
            axes.tick_params(length=0)
        return axes

    def to_svg(self, title: str) -> str:
        """Return the element; ``title`` is for those who cannot see it."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with mpl.rc_context({**STYLE, "svg.hashsalt": self._name}):
            self.figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
        text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{self._name}-", text)
        for name, color in COLORS.items():
            text = text.replace(color, f"var(--{name})")
        return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def thin_out(
    times_s: NDArray[np.float64], values: NDArray[np.float64], most: int = MOST_POINTS
) -> NDArray[np.intp]:
    """Choose at most ``most`` points: of each column the slowest, the fastest, some in between."""
    if len(times_s) <= most:
        return np.arange(len(times_s))
    edges = np.linspace(times_s[0], times_s[-1], most // POINTS_PER_COLUMN + 1)[1:-1]
    chosen = []
    for column in np.split(np.arange(len(times_s)), np.searchsorted(times_s, edges)):
        if len(column):
            order = column[np.argsort(values[column], kind="stable")]
            ranks = np.linspace(0, len(order) - 1, min(POINTS_PER_COLUMN, len(order)))
            chosen.append(order[np.round(ranks).astype(int)])
    return np.sort(np.concatenate(chosen))


def draw_dots(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], color: str, size: float
) -> None:
    """Draw points as one path: a tenth of the bytes that a marker for each would take."""
    if not len(x):
        return
    vertices = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile(np.array([Path.MOVETO, Path.CLOSEPOLY], np.uint8), len(x))
    axes.add_patch(
        PathPatch(
            Path(vertices, codes),
            fill=False,
            edgecolor=COLORS[color],
            linewidth=size,
            capstyle="round",
        )
    )


def set_latency_axis(axes: Axes, values_ms: Sequence[float], font_size: float) -> None:
    """Give the y axis a logarithmic scale that shows all values, in plain milliseconds."""
    known = [value for value in values_ms if np.isfinite(value) and value > 0.0] or [1.0, 100.0]
    low, high = min(known) / 1.3, max(known) * 1.6
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(
        LogLocator(subs=MANY_TICKS if high < NARROW_RATIO * low else FEW_TICKS)
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, axis="y")
    axes.tick_params(labelsize=font_size)


def time_ticks(end_s: float, most: int) -> tuple[list[float], list[str]]:
    """Return at most about ``most`` places on a time axis and their labels."""
    step_s = next((step for step in STEPS_S if end_s / step <= most), STEPS_S[-1])
    times_s = [float(time_s) for time_s in np.arange(0.0, end_s + 1e-9, step_s)]
    return times_s, [format_time(time_s, end_s) for time_s in times_s]


def format_time(time_s: float, end_s: float) -> str:
    """Return a time as seconds or, in a long run, as minutes and seconds."""
    if end_s < LONG_S:
        return f"{time_s:g} s"
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}"
