# SPDX-License-Identifier: Apache-2.0
"""``perception hil``: this host plays the car to a device under test, and judges its answers."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError
from perception_node.system.files import replace_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from perception_node.bench.check import Check
    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario

EXAMPLE = "perception hil smoke --out /tmp/smoke"
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
NEEDED = ("jinja2", "junitparser", "matplotlib")  # of the report: to be missed before the run
BAG, REPORT, JUNIT, PAGE = "bag", "report.json", "junit.xml", "index.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "scenario", help="file, or the name of a scenario that comes with us, such as smoke"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write page, report, JUnit XML and bag here (default hil-NAME-TIME)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Play, listen, judge, write; return 1 if a check fails."""
    from perception_node.bench.hil.pictures import (
        make_load,
        read_golden,
        read_pictures,
    )
    from perception_node.bench.hil.scenario_file import (
        find_scenario,
        load_scenario,
    )
    from perception_node.bench.hil.verdict import judge
    from perception_node.terminal.console import make_console

    for name in NEEDED:
        import_module(name)
    scenario = load_scenario(find_scenario(arguments.scenario))
    pictures = read_pictures(scenario.camera)
    golden = scenario.expect.golden
    labels = [] if golden is None else read_golden(golden, make_load(scenario.camera).topic)
    now = datetime.now(timezone.utc)
    folder = arguments.out or Path(f"hil-{scenario.name}-{now:%Y%m%dT%H%M%SZ}")
    console = make_console()
    record, remarks = _play(scenario, pictures, folder, console, arguments.ros_arguments)
    checks = judge(scenario, record, labels)
    _write(folder, scenario, record, checks, remarks)
    _print(console, record, checks, folder)
    if not record.complete:
        return EXIT_INTERRUPTED
    return EXIT_OK if all(check.is_ok for check in checks) else EXIT_FAILED


def _play(
    scenario: Scenario,
    pictures: Sequence[bytes],
    folder: Path,
    console: Console,
    ros_arguments: list[str],
) -> tuple[HilRecord, tuple[str, ...]]:
    """Run the scenario; return what happened, and what the bag lacks of it."""
    from perception_node.ros.required import require_ros

    require_ros()
    from perception_node.rehearsal.domain import use_private_domain

    if scenario.node.is_local:
        use_private_domain()
    from perception_node.bench.hil.host import Host
    from perception_node.bench.hil.live import RunView
    from perception_node.bench.hil.recorder import Recorder

    with _removed_on_error(folder):
        with Recorder(folder / BAG) as recorder, RunView(console, scenario) as view:
            record = Host(scenario, pictures, recorder.write, view.update).run(ros_arguments)
        if not record.begin_ns:
            raise KeyboardInterrupt  # before there was anything to report
    return record, recorder.remarks


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    """Leave nothing of a run that never began; what was there before stays."""
    had_bag, had_folder = (folder / BAG).exists(), folder.exists()
    try:
        yield
    except BaseException:
        if not had_bag:
            shutil.rmtree(folder / BAG, ignore_errors=True)
        if not had_folder:
            with suppress(OSError):  # something else is in it
                folder.rmdir()
        raise


def _write(
    folder: Path,
    scenario: Scenario,
    record: HilRecord,
    checks: Sequence[Check],
    remarks: Sequence[str],
) -> None:
    from perception_node.bench.hil import junit, page, report_json

    seconds = (record.end_ns - record.begin_ns) / 1e9
    report = report_json.to_report(scenario, record, checks, remarks)
    html = page.to_html(scenario, record, checks, remarks)
    contents = {
        REPORT: json.dumps(report, indent=1, allow_nan=False).encode() + b"\n",
        JUNIT: junit.to_xml(scenario.name, checks, seconds, is_complete=record.complete),
        PAGE: html.encode(errors="replace"),
    }
    try:
        for name, content in contents.items():
            replace_file(folder / name, content)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error


def _print(console: Console, record: HilRecord, checks: Sequence[Check], folder: Path) -> None:
    from rich.markup import escape

    names = max(len(check.name) for check in checks)
    founds = max(len(check.found) for check in checks)
    for check in checks:
        verdict = "[green]ok    [/]" if check.is_ok else "[red]FAILED[/]"
        row = f"{check.name:<{names}}  {check.found:<{founds}}  {check.limit}"
        console.print(f"{verdict}  {escape(row)}")
    if not record.complete:
        console.print("partial: the run was interrupted")
    console.print(f"report: {folder / PAGE}", markup=False)
