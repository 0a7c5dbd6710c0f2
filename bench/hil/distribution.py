# SPDX-License-Identifier: Apache-2.0
"""How the latencies are spread: one curve over percentiles, with the limits on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.hil.svg import COLORS, Drawing, set_latency_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from perception_node.bench.hil.round_trips import RoundTrips

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 440, 290, 58, 14, 18, 30
FONT = 13.0
LEAST_RANGE = 2.0  # decades: up to 99 %
PLACES = 240  # of the curve
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


def draw_distribution(
    trips: RoundTrips, calm: NDArray[np.bool_], limits_ms: Mapping[str, float]
) -> str:
    """Return the drawing as an SVG element.

    Args:
        trips: the round trips.
        calm: (frames,), those that are judged.
        limits_ms: what the scenario allows: ``p50``, ``p90``, ``p99``, ``max``.

    """
    judged_ms = np.sort(trips.latency_ms[trips.is_answered & calm])
    spoilt_ms = np.sort(trips.latency_ms[trips.is_answered & ~trips.is_good])
    drawing = Drawing("distribution", WIDTH, HEIGHT)
    axes = drawing.add_axes(LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
    right = max(LEAST_RANGE, _range(judged_ms), _range(spoilt_ms))
    axes.set_xlim(0.0, right)
    set_latency_axis(axes, [*judged_ms, *spoilt_ms, *limits_ms.values()], FONT)
    axes.set_ylabel("latency (ms)", fontsize=FONT)
    axes.grid(visible=True, axis="x")
    shown = [percent for percent in PERCENTILES if _place(percent) <= right]
    axes.set_xticks([_place(p) for p in shown], [f"{p:g} %" for p in shown], fontsize=FONT)
    _draw_curve(axes, spoilt_ms, "warn", (0, (2, 2)))
    _draw_curve(axes, judged_ms, "point", "-")
    for name, limit_ms in limits_ms.items():
        _draw_limit(axes, name, limit_ms, right)
    return drawing.to_svg("latency over percentiles, with the limits of the scenario")


def _draw_curve(axes: Axes, sorted_ms: NDArray[np.float64], color: str, style: object) -> None:
    """Draw the latency that a share of the frames does not exceed; its end is the slowest."""
    if not len(sorted_ms):
        return
    places = np.linspace(0.0, _range(sorted_ms), PLACES)
    ranks = np.ceil((1.0 - 10.0**-places) * len(sorted_ms)).astype(int)
    ranks[-1] = len(sorted_ms)
    values_ms = sorted_ms[np.clip(ranks, 1, None) - 1]
    axes.plot(
        places,
        values_ms,
        color=COLORS[color],
        linewidth=2.4,
        linestyle=style,
        drawstyle="steps-post",
    )


def _draw_limit(axes: Axes, name: str, limit_ms: float, right: float) -> None:
    place = right if name == "max" else _place(float(name.removeprefix("p")))
    if place > right:
        return
    half = 0.04 * right
    axes.hlines(limit_ms, place - half, min(right, place + half), COLORS["bad"], linewidth=3.0)
    axes.annotate(
        f"{name} {limit_ms:g}",
        (place, limit_ms),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right" if place + half >= right else "center",
        va="bottom",
        fontsize=FONT,
        color=COLORS["bad"],
    )


def _range(sorted_ms: NDArray[np.float64]) -> float:
    """Return where the curve of so many values ends: two of ten reach 80 %, so to say."""
    return float(np.log10(max(len(sorted_ms), 1)))


def _place(percent: float) -> float:
    """Return the place of a percentile: 90 is 1, 99 is 2, 99.9 is 3."""
    return float(-np.log10(1.0 - percent / 100.0))
