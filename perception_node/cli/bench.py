# SPDX-License-Identifier: Apache-2.0
"""``perception bench``: how long an image takes, from a camera's publish call to its labels."""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from perception_node.cli.bench_plan import LEVELS, add_load_arguments, make_plan
from perception_node.cli.options import add_model_arguments
from perception_node.errors import ConfigError
from perception_node.system.files import replace_file
from perception_node.terminal.output import parse_count, parse_number

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from perception_node.bench.levels.benchmark import BenchmarkPlan
    from perception_node.bench.reporting.measurement import Report

EXAMPLE = "perception bench node --size 1280x720 --baseline naive --out report"
TASKS = ("compare", "report")
EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "what",
        nargs="*",
        default=["node"],
        metavar="LEVEL",
        help="engine (bare inference), pipeline, node (default), startup, or several of them; or "
        "compare A.json B.json; or report A.json..., which merges and draws again",
    )
    add_load_arguments(parser)
    parser.add_argument(
        "--runs", type=parse_count, default=1, help="turns of each subject (default 1)"
    )
    parser.add_argument("--deadline-ms", type=parse_number, default=100.0, metavar="MS")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        choices=("naive", "floor"),
        help="takes turns with the node: the node that people write, or transport alone",
    )
    parser.add_argument(
        "--sweep", action="store_true", help="find the highest rate that the node keeps up with"
    )
    parser.add_argument("--out", type=Path, metavar="NAME", help="write NAME.json, .md and .png")
    parser.add_argument(
        "--max-regression", default="5%", metavar="SHARE", help="for compare (default 5%%)"
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the node, such as max_rate_hz=10; may be repeated",
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, or compare, or draw again; return 1 if a comparison found a regression."""
    from perception_node.terminal.console import make_console

    console = make_console()
    task, *files = arguments.what
    if task == "compare":
        return _compare(console, files, arguments.max_regression)
    if task == "report":
        return _report(console, files, arguments.out)
    unknown = [level for level in arguments.what if level not in LEVELS]
    if unknown:
        allowed = ", ".join((*LEVELS, *TASKS))
        raise ConfigError(f"no such level: {unknown[0]}; choose from: {allowed}")
    return _measure(console, make_plan(arguments), arguments.out)


def _measure(console: Console, plan: BenchmarkPlan, out: Path | None) -> int:
    from perception_node.bench.levels.benchmark import Benchmark
    from perception_node.bench.levels.paced_run import describe_model
    from perception_node.bench.machine import find_warnings, measure_noise, read_machine
    from perception_node.bench.reporting.live_table import LiveTable, print_report
    from perception_node.bench.reporting.measurement import Report
    from perception_node.ros.required import require_ros

    require_ros()
    _require_writable(out)
    machine, noise = read_machine(), measure_noise()
    console.print(noise.describe())
    report = Report(
        command=[_without_folders(word) for word in sys.argv[2:]],
        started_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        deadline_ms=plan.deadline_ms,
        model=describe_model(plan.parameters),
        machine={**machine, "noise": noise._asdict()},
        warnings=find_warnings(machine),
    )
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")
    exit_code = 0
    try:
        with LiveTable(console, plan.total_runs) as table:
            Benchmark(plan, report, table).run()
    except KeyboardInterrupt:
        exit_code = EXIT_INTERRUPTED
    finally:  # also after an error: hours may lie before it
        report.warnings = find_warnings(machine, read_machine())
        report.cases = [case for case in report.cases if case.runs]
        if report.cases:
            _write(report, out)  # first: who reads what is printed may be gone
            print_report(console, report)
            _say_what_is_written(console, out)
        else:
            console.print("nothing was measured, nothing is written")
    return exit_code


def _compare(console: Console, files: list[str], max_regression: str) -> int:
    from perception_node.bench.reporting.compare import (
        compare,
        find_caveats,
        parse_max_regression,
    )
    from perception_node.bench.reporting.live_table import print_differences
    from perception_node.bench.reporting.measurement import read_report

    limit = parse_max_regression(max_regression)
    try:
        first, second = files
    except ValueError as error:
        raise ConfigError(f"compare takes two reports, found {len(files)}") from error
    before, after = read_report(Path(first)), read_report(Path(second))
    differences = compare(before, after, limit)
    print_differences(console, differences, find_caveats(before, after))
    return 1 if any(difference.is_regression for difference in differences) else 0


def _report(console: Console, files: list[str], out: Path | None) -> int:
    from perception_node.bench.reporting.live_table import print_report
    from perception_node.bench.reporting.measurement import read_report
    from perception_node.bench.reporting.merging import merge_reports

    if not files:
        raise ConfigError("report takes the .json files of one benchmark or several")
    merged = merge_reports([read_report(Path(file)) for file in files])
    _write(merged, out)
    print_report(console, merged)
    _say_what_is_written(console, out)
    return 0


def _require_writable(out: Path | None) -> None:
    """Find out before an hour's work."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error


def _write(report: Report, out: Path | None) -> None:
    if out is None:
        return
    from perception_node.bench.reporting.figure import draw
    from perception_node.bench.reporting.markdown import to_markdown

    try:
        replace_file(Path(f"{out}.json"), report.to_json().encode())
        replace_file(Path(f"{out}.md"), to_markdown(report).encode())
        draw(report, Path(f"{out}.png"))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error


def _say_what_is_written(console: Console, out: Path | None) -> None:
    if out is not None:
        console.print(f"written: {escape(str(out))}.json, .md, .png")


def _without_folders(word: str) -> str:
    """Return a word of the command line, of a path only its end: the rest is nobody's business."""
    name, sign, value = word.rpartition("=")
    return f"{name}{sign}{Path(value).name}"
