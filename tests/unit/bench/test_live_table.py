# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows while a benchmark runs, and what a file gets instead."""

from __future__ import annotations

import io
import math
import re
from contextlib import suppress

import pytest

from perception_node.bench.reporting.compare import compare, find_caveats
from perception_node.bench.reporting.live_table import (
    LiveTable,
    Progress,
    print_differences,
    print_report,
)
from perception_node.bench.reporting.markdown import to_markdown
from perception_node.terminal.console import make_console
from tests.bench_builders import make_node_case, make_report, make_startup_case

CASE = make_node_case(frames=200, repetitions=2)
NODE = CASE.of("node")[0]
HALFWAY = Progress(
    sent=100, answered=98, missed=3, rate_hz=29.9, p99_ms=12.34, seconds_left=3.4, total=200
)
FIRST = Progress(
    sent=0, answered=0, missed=0, rate_hz=math.nan, p99_ms=math.nan, seconds_left=7.0, total=200
)


def console_of(*, is_terminal=False, width=100):
    return make_console(
        file=io.StringIO(), force_terminal=is_terminal, width=width, color_system=None
    )


def read(console):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_file_gets_one_line_per_run():
    console = console_of(width=40)
    with LiveTable(console, runs=2) as table:
        table.begin(CASE.name, "node")
        table.update(HALFWAY)
        table.end(NODE)
        table.begin(CASE.name, "bare")
        table.end(CASE.of("bare")[0])
    lines = read(console).splitlines()
    assert len(lines) == 2
    p50_ms = NODE.stages["end to end"].percentile_ms(50)
    assert lines[0].startswith(f"run 1 of 2: {CASE.name}, node: p50 {p50_ms:.2f}, ")
    assert lines[0].endswith("answered 200, missed 0")
    assert lines[1].startswith("run 2 of 2")
    assert "answered" not in lines[1]


def test_a_terminal_shows_how_far_it_is():
    console = console_of(is_terminal=True)
    with LiveTable(console, runs=3) as table:
        table.begin(CASE.name, "node")
        table.end(NODE)
        table.begin(CASE.name, "naive")
        table.update(HALFWAY)
        console.print(table.render())
    shown = read(console)
    assert "run 2 of 3: naive" in shown
    for words in (
        "100/200 sent",
        "98 answered",
        "3 missed",
        "29.9 Hz",
        "p99 12.34 ms",
        "3 s left",
    ):
        assert words in shown
    assert f"{NODE.stages['end to end'].percentile_ms(50):.2f}" in shown


def test_before_there_is_a_result_there_are_dashes():
    console = console_of(is_terminal=True)
    table = LiveTable(console, runs=1)
    table.begin(CASE.name, "node")
    console.print(table.render())
    assert "starts" in read(console)
    table.update(FIRST)
    console.print(table.render())
    assert "— Hz  p99 — ms" in read(console)


def test_an_error_leaves_the_terminal_as_it_was():
    console = console_of(is_terminal=True)
    table = LiveTable(console, runs=1)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    with suppress(ValueError), table:
        table.begin(CASE.name, "node")
        raise ValueError
    written = console.file.getvalue()
    assert written.rfind(shown) > written.rfind(hidden) >= 0


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_says_what_the_markdown_says(width):
    report = make_report(CASE, make_startup_case(), warnings=["hot [red]x[/red]"], complete=False)
    console = console_of(width=width)
    print_report(console, report)
    shown = read(console)
    assert "…" not in shown
    assert "warning: hot [red]x[/red]" in shown
    assert "partial" in shown
    cells = {
        cell.strip().replace("\\", "")
        for line in to_markdown(report).splitlines()
        if line.startswith("| ")
        for cell in line.strip("|").split("|")
    }
    flat = " ".join(shown.split())
    numbers = {cell for cell in cells if re.fullmatch(r"[\d.]+", cell)}
    assert len(numbers) > 90
    assert numbers <= set(flat.split())


def test_a_regression_is_said_in_words():
    slow = make_report(make_node_case(frames=200, repetitions=2, seed=1, slower=1.3))
    before = make_report(CASE)
    console = console_of(width=60)
    print_differences(console, compare(before, slow, 0.05), find_caveats(before, slow))
    rows = [line for line in read(console).splitlines() if "end to end p50" in line]
    node = next(row for row in rows if row.split()[0] == "node")
    assert "REGRESSION" in node
    assert re.search(r"\+\d+\.\d% +\+\d+\.\d% to \+\d+\.\d%", node)
    assert sum("REGRESSION" in row for row in rows) == 1
