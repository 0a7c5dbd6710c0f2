# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says of what the node and the commands import: it imports it too."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass

from perception_node.doctor.findings import MISSING, OK, Finding, once, run_module
from perception_node.doctor.ros_findings import find_rclpy_failure
from perception_node.doctor.try_imports import CORE, NODE
from perception_node.installing import APT, PIP, REPORT

TIMEOUT_S = 60.0
TOLD_ELSEWHERE = {*APT, *PIP, "pycuda", "rclpy", "tensorrt", "tensorrt_rtx", "vision_msgs"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a module cannot be imported.

    Attributes:
        problem: one line.
        place: where in this package, in brackets, or empty.
        lacks: the package that is not here, or empty.
        advice: a command.

    """

    problem: str
    place: str = ""
    lacks: str = ""
    advice: str = REPORT


def check_node() -> Finding:
    """Import what the node imports."""
    failures = find_failures()
    failure = failures.get(NODE)
    if failure is None:
        return Finding("node", OK, "all that it imports is here")
    core = "" if CORE in failures else "; perception classify and replay can run"
    advice = "see ROS 2" if find_rclpy_failure() else failure.advice
    lacks = (failure.lacks,) if failure.lacks else ()
    found = f"cannot start: {failure.problem}{failure.place}{core}"
    return Finding("node", MISSING, found, advice, lacks)


def check_commands() -> Finding:
    """Import all modules of this package; what is optional is told where it is looked for."""
    failures = find_failures()
    cause = failures[NODE].problem if NODE in failures else ""
    has_ros = find_rclpy_failure() is None
    wrong = {
        module: failure
        for module, failure in failures.items()
        if failure.lacks not in TOLD_ELSEWHERE
        and failure.problem != cause
        and (has_ros or not failure.lacks)
    }
    if not wrong:
        return Finding("commands", OK, "all that they import is here, or has its own line")
    module, failure = next(iter(wrong.items()))
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    found = f"{module} cannot be imported{more}: {failure.problem}{failure.place}"
    return Finding("commands", MISSING, found, failure.advice)


@once
def find_failures() -> dict[str, Failure]:
    """Return why each module that cannot be imported cannot, by name."""
    try:
        child = run_module("perception_node.doctor.try_imports", TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode()  # bytes even where text is asked for
        return _read(output, f"its import takes more than {TIMEOUT_S:g} s")
    return _read(child.stdout, f"its import {_ending(child.returncode)}")


def _read(output: str, ending: str) -> dict[str, Failure]:
    failures: dict[str, Failure] = {}
    module = CORE
    for line in map(json.loads, output.splitlines()):
        if "module" in line:
            module = line["module"]
        else:
            failures[module] = Failure(**line)
    if module:
        failures[module] = Failure(ending)
    return failures


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ends the process with code {returncode}"
    return f"kills the process ({signal.Signals(-returncode).name})"
