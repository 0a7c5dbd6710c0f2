# SPDX-License-Identifier: Apache-2.0
"""``perception bench`` with reports that exist: compare two, merge some, and wrong input."""

from __future__ import annotations

import pytest

from perception_node.bench.reporting.measurement import read_report
from perception_node.cli import EXIT_CHECK_FAILED, EXIT_OK, EXIT_WRONG_INPUT, main
from tests.bench_builders import make_node_case, make_report


@pytest.fixture
def reports(tmp_path):
    """Return the files of a report, of one like it and of a slower one."""
    cases = {"before": {}, "same": {"seed": 1}, "slower": {"slower": 1.3}}
    files = {name: tmp_path / f"{name}.json" for name in cases}
    for name, change in cases.items():
        case = make_node_case(frames=300, **change)
        files[name].write_text(make_report(case).to_json(), encoding="utf-8")
    return {name: str(file) for name, file in files.items()}


def test_a_comparison_fails_where_something_became_slower(reports, capsys):
    assert main(["bench", "compare", reports["before"], reports["same"]]) == EXIT_OK
    assert "REGRESSION" not in capsys.readouterr().out
    assert main(["bench", "compare", reports["before"], reports["slower"]]) == EXIT_CHECK_FAILED
    assert "REGRESSION" in capsys.readouterr().out
    allowed = ["--max-regression", "50%"]
    assert main(["bench", "compare", reports["before"], reports["slower"], *allowed]) == EXIT_OK


def test_reports_are_merged_and_drawn(reports, tmp_path, capsys):
    out = tmp_path / "both"
    assert main(["bench", "report", reports["before"], reports["same"], "--out", str(out)]) == 0
    assert f"written: {out}.json, .md, .png" in capsys.readouterr().out
    merged = read_report(tmp_path / "both.json")
    assert len(merged.cases[0].of("node")) == 6
    assert "6 runs" in (tmp_path / "both.md").read_text(encoding="utf-8")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "one.json"], "compare takes two reports, found 1"),
        (["compare", "none.json", "none.json"], "none.json: cannot be read: No such file"),
        (["report"], "report takes the .json files"),
        (["dance"], "no such level: dance; choose from: engine, pipeline, node, startup, compare"),
        (["compare", "a", "b", "--max-regression", "much"], "--max-regression must be 0% to 100%"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == EXIT_WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_report_that_cannot_be_written_is_one_line(reports, capsys):
    assert main(["bench", "report", reports["same"], "--out", "/proc/report"]) == EXIT_WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "--out /proc/report: cannot be written: " in line
