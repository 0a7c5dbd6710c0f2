# SPDX-License-Identifier: Apache-2.0
"""``perception doctor``: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from perception_node.cli import EXIT_ENVIRONMENT, EXIT_OK
from perception_node.doctor import (
    delivery_findings,
    gpu_findings,
    http_findings,
    import_findings,
    jetpack_findings,
    machine_findings,
    realtime_findings,
    ros_findings,
    segment_findings,
    transport_findings,
)
from perception_node.doctor.doctor_report import make_report
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding
from perception_node.installing import REPORT, install_missing, repair_command
from perception_node.printable import printable
from perception_node.terminal.output import note, say, say_marked, say_record

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXAMPLE = "perception doctor --json"
COLORS = {OK: "32", MISSING: "31", OPTIONAL: "33"}  # green, red, yellow
INDENT, NARROWEST = 25, 20  # of what is found: where it begins, how narrow it may become
SLOW = (
    delivery_findings.find_delivery,
    import_findings.find_failures,
)  # each waits for processes of its own

# The key is the finding's id in the JSON report: it never changes.
CHECKS: dict[str, Callable[[], Finding]] = {
    "python": machine_findings.check_python,
    "machine": machine_findings.check_machine,
    "ros": ros_findings.check_ros,
    "vision_msgs": ros_findings.check_messages,
    "middleware": transport_findings.check_middleware,
    "node": import_findings.check_node,
    "commands": import_findings.check_commands,
    "images": delivery_findings.check_images,
    "drivers": delivery_findings.check_drivers,
    "dds_profile": transport_findings.check_profile,
    "shared_memory": transport_findings.check_shared_memory,
    "dds_segments": segment_findings.check_segments,
    "udp_buffers": transport_findings.check_socket_buffers,
    "real_time": realtime_findings.check_priority,
    "locked_memory": realtime_findings.check_locked_memory,
    "libraries": machine_findings.check_libraries,
    "jpeg": machine_findings.check_jpeg,
    "onnxruntime": machine_findings.check_onnxruntime,
    "default_model": machine_findings.check_model,
    "gpu": gpu_findings.check_gpu,
    "tensorrt": gpu_findings.check_tensorrt,
    "pycuda": gpu_findings.check_pycuda,
    "jetpack": jetpack_findings.check_jetpack,
    "plans": gpu_findings.check_plans,
    "tensorrt_rtx": gpu_findings.check_tensorrt_rtx,
    "model_import": gpu_findings.check_importers,
    "reports": machine_findings.check_reports,
    "http": http_findings.check_http,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object, for reports")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 3 if something the node or a command needs is missing."""
    if sys.stderr.isatty():
        note("This takes about ten seconds.")
    with ThreadPoolExecutor() as pool:
        for ask in SLOW:
            pool.submit(ask)
    findings = {name: _find(name, check) for name, check in CHECKS.items()}
    if arguments.json:
        say_record(make_report(findings), indent=2)
    else:
        _print(list(findings.values()))
    is_complete = all(finding.state != MISSING for finding in findings.values())
    return EXIT_OK if is_complete else EXIT_ENVIRONMENT


def _find(name: str, check: Callable[[], Finding]) -> Finding:
    """Look at one thing; what cannot be looked at must not hide the rest."""
    try:
        return check()
    except ImportError as error:
        return Finding(_words(name), MISSING, " ".join(str(error).split()), repair_command(error))
    except Exception as error:  # noqa: BLE001 - it becomes a finding
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(_words(name), OPTIONAL, f"unknown, {problem}", REPORT)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _print(findings: list[Finding]) -> None:
    """Print a line per finding; commands stay in one piece, ready to be copied."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for finding in findings:
        first, *others = textwrap.wrap(
            printable(finding.found),
            max(NARROWEST, width - INDENT),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
        mark, color = f"{finding.state:<8}", COLORS[finding.state]
        say_marked(mark, color, f"  {finding.subject:<13}  {first}")
        for line in others:
            say(f"{'':<{INDENT}}{line}")
        if finding.advice:
            say(f"{'':<10}-> {finding.advice}")
    for line in _summarize(findings):
        say(line)


def _summarize(findings: list[Finding]) -> list[str]:
    missing = [finding for finding in findings if finding.state == MISSING]
    optional = sum(finding.state == OPTIONAL for finding in findings)
    if not missing:
        return [f"Nothing that is needed is missing; {optional} more could be better."]
    text = f"Missing: {', '.join(finding.subject for finding in missing)}."
    modules = [module for finding in missing for module in finding.lacks]
    command = install_missing(modules)
    return [f"{text} The packages among them:", f"{'':<10}-> {command}"] if command else [text]
