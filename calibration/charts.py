# SPDX-License-Identifier: Apache-2.0
"""Small SVG pictures for the report; their colours are CSS variables of the page around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perception_node.printable import printable_html

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.calibration.metrics import Bin

SIDE, LEFT, BOTTOM, TOP = 240, 34, 30, 8  # of a reliability diagram, in its own units
SMALLEST_DOT, LARGEST_DOT = 2.0, 9.0
ROW, BAR, LABELS, WIDTH, VALUES = 34, 14, 112, 440, 76  # of a bar chart
PER_CENT = ((0.0, "0"), (0.5, "50"), (1.0, "100 %"))


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: what it is of.
        value: how long, in the unit of the chart.
        text: the value in words.
        color: name of the CSS variable of its colour.

    """

    label: str
    value: float
    text: str
    color: str


def bars(rows: Sequence[Bar], full: float, title: str, limit: float | None = None) -> str:
    """Return a chart of horizontal bars.

    Args:
        rows: from top to bottom.
        full: the value whose bar is as long as there is room.
        title: for those who cannot see it.
        limit: where a line marks what is allowed; None for none.

    """
    room = WIDTH - LABELS - VALUES
    height = ROW * len(rows)
    parts = [_open(WIDTH, height, title)]
    for index, row in enumerate(rows):
        middle = ROW * index + ROW / 2
        length = room * min(max(row.value / full, 0.0), 1.0)
        y = middle - BAR / 2
        fill = f' style="fill:var(--{row.color})"'
        label, text = printable_html(row.label), printable_html(row.text)
        parts += [
            f'<text x="{LABELS - 12}" y="{middle}" class="name">{label}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{room}" height="{BAR}" rx="4" class="track"/>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="4"{fill}/>',
            f'<text x="{LABELS + room + 12}" y="{middle}" class="value">{text}</text>',
        ]
    if limit is not None:
        x = LABELS + room * limit / full
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 4}" class="limit"/>')
    return "".join(parts) + "</svg>"


def reliability_diagram(
    bins: Sequence[Bin], reference: Sequence[Bin], color: str, title: str
) -> str:
    """Return accuracy over confidence: a dot per bin, as large as it has images.

    Args:
        bins: of the model.
        reference: of the float32 model, drawn faintly behind.
        color: name of the CSS variable of the model's colour.
        title: for those who cannot see it.

    """
    parts = [_open(SIDE + LEFT + 14, SIDE + TOP + BOTTOM, title)]
    x0, x1, y0, y1 = _x(0), _x(1), _y(0), _y(1)
    parts.append(f'<rect x="{x0}" y="{y1}" width="{SIDE}" height="{SIDE}" class="track"/>')
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" class="ideal"/>')
    for value, text in PER_CENT:
        anchor = "end" if value == 1.0 else "middle"
        parts.append(
            f'<text x="{_x(value)}" y="{y0 + 16}" style="text-anchor:{anchor}">{text}</text>'
        )
        parts.append(f'<text x="{x0 - 6}" y="{_y(value)}" class="name">{text[:3]}</text>')
    parts.append(_curve(reference, "muted", with_dots=False))
    parts.append(_curve(bins, color, with_dots=True))
    return "".join(parts) + "</svg>"


def _curve(bins: Sequence[Bin], color: str, *, with_dots: bool) -> str:
    most = max(one.images for one in bins)
    filled = [one for one in bins if one.images]
    points = " ".join(f"{_x(one.confidence):.1f},{_y(one.accuracy):.1f}" for one in filled)
    line = f'<polyline points="{points}" class="curve" stroke="var(--{color})"/>'
    if not with_dots:
        return line
    return line + "".join(
        f'<circle cx="{_x(one.confidence):.1f}" cy="{_y(one.accuracy):.1f}" '
        f'r="{SMALLEST_DOT + (LARGEST_DOT - SMALLEST_DOT) * (one.images / most) ** 0.5:.1f}" '
        f'class="dot" fill="var(--{color})">'
        f"<title>{one.images} images: {one.confidence:.0%} sure, {one.accuracy:.0%} right</title>"
        "</circle>"
        for one in filled
    )


def _open(width: float, height: float, title: str) -> str:
    label = printable_html(title)
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'


def _x(value: float) -> float:
    return LEFT + SIDE * value


def _y(value: float) -> float:
    return TOP + SIDE * (1.0 - value)
