# SPDX-License-Identifier: Apache-2.0
"""A report as one picture for a slide: distribution, stages, and the age of each frame."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from perception_node.bench.reporting.age_panel import draw_ages
from perception_node.bench.reporting.distribution_panel import draw_distributions
from perception_node.bench.reporting.figure_style import INK, MUTED, write_title
from perception_node.bench.reporting.merging import describe_machine
from perception_node.bench.reporting.stage_panel import draw_stages
from perception_node.bench.reporting.targets import size_name
from perception_node.system.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.bench.reporting.measurement import Case, Report

SIZE_INCHES, DPI = (16.0, 9.0), 100
MOST_PANELS = 3
MOST_LETTERS = 150  # below the title
LEFT, RIGHT = 0.06, 0.975
LEVELS = ("node", "pipeline", "engine", "startup")  # the first that was measured is drawn


def draw(report: Report, path: Path) -> None:
    """Write a PNG of 1600 x 900 pixels.

    The main case is the last one of the highest level; where that level has several cases, their
    distributions stand side by side.

    Raises:
        OSError: the file cannot be written.

    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    cases = _choose_cases(report)
    _write_header(figure, report, cases)
    if cases:
        _draw_panels(figure, cases, report.deadline_ms)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", metadata={"Software": None})
    replace_file(path, content.getvalue())


def _choose_cases(report: Report) -> list[Case]:
    for level in LEVELS:
        cases = [case for case in report.cases if case.level == level and case.runs]
        if cases:
            return cases[-MOST_PANELS:]
    return []


def _write_header(figure: Figure, report: Report, cases: list[Case]) -> None:
    name = cases[-1].name if cases else "nothing was measured"
    if len(cases) > 1:
        name = f"{cases[0].level}: " + ", ".join(size_name(case) or case.name for case in cases)
    facts = [
        report.model.get("name", ""),
        report.model.get("engine", ""),
        describe_machine(report.machine),
        report.started_utc[:10],
    ]
    if not report.complete:
        facts.append("PARTIAL: it was interrupted")
    if report.warnings:
        facts.append(f"warnings: {len(report.warnings)}")
    figure.text(LEFT, 0.93, name, fontsize=25, fontweight="bold", color=INK, parse_math=False)
    words = "   ·   ".join(fact for fact in facts if fact)
    figure.text(LEFT, 0.887, words[:MOST_LETTERS], fontsize=14, color=MUTED, parse_math=False)


def _draw_panels(figure: Figure, cases: list[Case], deadline_ms: float) -> None:
    main = cases[-1]
    is_single = len(cases) == 1
    has_frames = any(run.timeline.times_s for run in main.runs)
    sides = {"left": LEFT, "right": RIGHT, "wspace": 0.19 if is_single else 0.08}
    above = {**sides, "top": 0.79, "bottom": 0.525 if has_frames or not is_single else 0.16}
    below = {**sides, "top": 0.39, "bottom": 0.15, "wspace": 0.19}
    if is_single:
        grid = figure.add_gridspec(1, 2, **above)
        upper, stages = [figure.add_subplot(grid[0])], figure.add_subplot(grid[1])
        lower = figure.add_gridspec(1, 1, **{**below, "top": 0.335, "bottom": 0.07})
    else:
        grid = figure.add_gridspec(1, len(cases), **above)
        upper = [figure.add_subplot(grid[column]) for column in range(len(cases))]
        lower = figure.add_gridspec(1, 2, **below)
        stages = figure.add_subplot(lower[0])
    draw_distributions(upper, cases, deadline_ms)
    draw_stages(stages, main)
    which = "" if is_single else f"{size_name(main) or main.name}, "
    write_title(stages, "Where the time goes", f"{which}median of each stage, ms")
    if has_frames:
        draw_ages(figure.add_subplot(lower[-1]), main, deadline_ms)
