# SPDX-License-Identifier: Apache-2.0
"""The figure is drawn whatever was measured, and shows what it must."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from perception_node.bench.reporting import figure as module
from perception_node.bench.reporting.age_panel import MOST_DOTS, _thin_out
from perception_node.bench.reporting.figure import draw
from perception_node.bench.reporting.measurement import Case
from tests.bench_builders import (
    make_bare_run,
    make_level_case,
    make_load,
    make_node_case,
    make_node_run,
    make_report,
    make_startup_case,
)

SOURCE = np.random.default_rng(0)
SIZES = ((640, 480), (1280, 720), (1920, 1080))
LOSSY = Case(
    "node",
    make_load(),
    [make_bare_run(SOURCE, 200), make_node_run(SOURCE, frames=200, lost=9, slower=2.7)],
)
REPORTS = {
    "one size": make_report(make_node_case(frames=200), make_startup_case()),
    "three sizes": make_report(*(make_node_case(size, frames=200) for size in SIZES)),
    "lost frames": make_report(LOSSY, complete=False, warnings=["hot"]),
    "no answer": make_report(
        Case("node", make_load(), [make_node_run(SOURCE, frames=50, lost=50)])
    ),
    "slow naive": make_report(
        Case(
            "node",
            make_load(),
            [make_node_run(SOURCE, frames=99), make_node_run(SOURCE, "naive", 99, slower=20)],
        )
    ),
    "pipeline": make_report(make_level_case("pipeline", "pipeline", {"infer": 9, "total": 9.5})),
    "engine": make_report(make_level_case("engine", "bare", {"infer": 9})),
    "startup": make_report(make_startup_case()),
    "foreign words": make_report(
        Case("node", {"name": "$x_1$ <b>"}, [replace(LOSSY.runs[1], subject="$y^2$")])
    ),
    "nothing": replace(make_report(), cases=[]),
    "no run": make_report(Case("node", make_load())),
}


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that are drawn."""
    figures = []

    class Kept(module.Figure):
        def __init__(self, *arguments, **fields):
            super().__init__(*arguments, **fields)
            figures.append(self)

    monkeypatch.setattr(module, "Figure", Kept)
    return figures


def find_words(figure):
    words = [text for text in figure.texts if text.get_text()]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        labels = [
            label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high
        ]
        low, high = sorted(axes.get_ylim())
        labels += [
            label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high
        ]
        legend = axes.get_legend()
        inside = [*axes.texts, *(legend.get_texts() if legend else [])]
        words += [text for text in (*inside, *labels) if text.get_text()]
    return words


def find_overlaps(words):
    boxes = [word.get_window_extent() for word in words]
    return [
        (words[first].get_text(), words[second].get_text())
        for second in range(len(words))
        for first in range(second)
        if boxes[first].shrunk(0.98, 0.7).overlaps(boxes[second])
    ]


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_can_be_drawn(tmp_path, drawn, name):
    path = tmp_path / "report.png"
    draw(REPORTS[name], path)
    assert cv2.imread(str(path)).shape == (900, 1600, 3)
    words = find_words(drawn[0])
    assert find_overlaps(words) == []
    for text in words:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0, text
        assert (box.x1 <= 1600, box.y1 <= 900) == (True, True), text


def test_the_title_tells_load_machine_and_date(tmp_path, drawn):
    draw(REPORTS["one size"], tmp_path / "report.png")
    title, facts = (text.get_text() for text in drawn[0].texts)
    assert title == "node, 640x480 bgr8 raw at 30 Hz"
    for word in ("efficientnet_lite0", "AMD EPYC, 2 cores", "2026-11-22"):
        assert word in facts


def test_lost_frames_and_the_deadline_are_shown(tmp_path, drawn):
    draw(REPORTS["lost frames"], tmp_path / "report.png")
    words = [text.get_text() for text in find_words(drawn[0])]
    assert "node\n9 unanswered" in words
    assert words.count("deadline 33.3 ms") == 2
    assert any("PARTIAL" in text for text in words)
    crosses = [line for axes in drawn[0].axes for line in axes.lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 9


def test_a_far_deadline_does_not_flatten_the_curves(tmp_path, drawn):
    report = replace(REPORTS["one size"], deadline_ms=1000.0)
    draw(report, tmp_path / "report.png")
    assert not any("deadline" in text.get_text() for text in find_words(drawn[0]))
    assert drawn[0].axes[0].get_ylim()[1] < 60


def test_the_same_report_gives_the_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        draw(REPORTS["one size"], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_thinning_out_keeps_every_peak():
    ages_ms = SOURCE.uniform(5, 10, 108_000)
    peaks = SOURCE.choice(ages_ms.size, 20, replace=False)
    ages_ms[peaks] = 50.0
    ages_ms[7] = np.nan
    shown = _thin_out(ages_ms)
    assert len(shown) <= MOST_DOTS
    assert set(peaks) <= set(shown)
