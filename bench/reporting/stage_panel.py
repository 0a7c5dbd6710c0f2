# SPDX-License-Identifier: Apache-2.0
"""Where the time goes: one bar per subject, made of the medians of its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch

from perception_node.bench.reporting.compare import find_main_stage
from perception_node.bench.reporting.figure_style import INK, LABEL_SIZE, MUTED, clean, color_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from perception_node.bench.reporting.measurement import Case

# what follows each other without a gap; thin ones are drawn as one
GROUPS = {
    "transport": ("transport",),
    "wait, read": ("wait", "read", "decode"),
    "preprocess": ("preprocess",),
    "infer": ("infer",),
    "postprocess, publish": ("postprocess", "publish"),
    "import": ("import",),
    "configure": ("configure",),
    "activate": ("activate",),
}
COLORS = dict(
    zip(
        GROUPS,
        ("#56B4E9", "#E69F00", "#009E73", "#4a4d52", "#CC79A7", "#56B4E9", "#E69F00", "#009E73"),
        strict=True,
    )
)
UNSTATED, UNSTATED_COLOR = "not stated", "#c9cac6"
LEAST_UNSTATED = 0.2  # of the whole
ROOM = 1.16  # right of the longest bar, for its length in figures
WIDE = 0.08  # of the axis: a part that has room for its length
FAR, CUT = 5.0, 2.5  # a bar that is so much longer than all with stages ends at so much
BAR_HEIGHT, FEWEST_ROWS = 0.62, 3
FEWER_DIGITS = (1.0, 100.0)  # ms from which on there is one less
LABEL: dict[str, Any] = {"fontsize": LABEL_SIZE, "va": "center"}


def draw_stages(axes: Axes, case: Case) -> None:
    """Draw the bars from top to bottom, in the order in which the subjects ran."""
    clean(axes, "x")
    bars = {subject: _find_parts(case, subject) for subject in case.subjects}
    end = _find_end(bars)
    axes.set_xlim(0.0, ROOM * end)
    for row, (subject, parts) in enumerate(bars.items()):
        _draw_bar(axes, row, parts, end)
        total = _find_total_ms(case, subject)
        begin = min(end, sum(parts.values()))
        axes.text(begin, row, f"  {_short(total)}", **LABEL, color=INK, fontweight="bold")
    axes.set_ylim(max(len(bars), FEWEST_ROWS) - 0.45, -0.55)
    axes.set_yticks(range(len(bars)), bars, fontsize=LABEL_SIZE + 1, parse_math=False)
    for label, subject in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_color(color_of(subject))
        label.set_fontweight("bold")
    axes.tick_params(axis="y", pad=8)
    _draw_legend(axes, [name for parts in bars.values() for name in parts])


def _find_end(bars: dict[str, dict[str, float]]) -> float:
    """Return how far the axis reaches: one bar that is far longer must not flatten the others."""
    stated = [sum(parts.values()) for parts in bars.values() if UNSTATED not in parts]
    longest = max((sum(parts.values()) for parts in bars.values()), default=0.0)
    if stated and longest > FAR * max(stated):
        return CUT * max(stated)
    return longest or 1.0


def _draw_bar(axes: Axes, row: int, parts: dict[str, float], end: float) -> None:
    begin = 0.0
    for name, length in parts.items():
        color = COLORS.get(name, UNSTATED_COLOR)
        shown = min(length, end - begin)
        axes.barh(row, shown, BAR_HEIGHT, begin, color=color, edgecolor="white", linewidth=0.7)
        if WIDE * end < length <= shown and len(parts) > 1:
            ink = "white" if name == "infer" else INK
            axes.text(begin + length / 2, row, _short(length), **LABEL, color=ink, ha="center")
        begin += length
    if begin > end * 1.001:  # the bar goes on
        axes.text(0.94 * end, row, "//", **LABEL, color=INK, ha="center", fontweight="bold")


def _find_parts(case: Case, subject: str) -> dict[str, float]:
    """Return the medians by group, in milliseconds, and what a subject says nothing about."""
    parts = {}
    for group, names in GROUPS.items():
        medians = [case.merged(subject, name).percentile_ms(50) for name in names]
        length = sum(median for median in medians if median > 0)
        if length > 0:
            parts[group] = length
    total = _find_total_ms(case, subject)
    unstated = total - sum(parts.values())
    if unstated > LEAST_UNSTATED * total:  # medians never add up exactly
        parts[UNSTATED] = unstated
    return parts


def _find_total_ms(case: Case, subject: str) -> float:
    stage = find_main_stage(case.of(subject))
    total = case.merged(subject, stage).percentile_ms(50) if stage else 0.0
    return total if total > 0 else 0.0


def _short(value_ms: float) -> str:
    return f"{value_ms:.{2 - sum(value_ms >= limit for limit in FEWER_DIGITS)}f}"


def _draw_legend(axes: Axes, names: list[str]) -> None:
    known = [name for name in (*GROUPS, UNSTATED) if name in names]
    patches = [Patch(color=COLORS.get(name, UNSTATED_COLOR), label=name) for name in known]
    axes.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.09),
        ncol=3,  # `ncols` from Matplotlib 3.6 on
        frameon=False,
        fontsize=12.5,
        labelcolor=MUTED,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.4,
        borderpad=0.2,
    )
