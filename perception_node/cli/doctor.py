# SPDX-License-Identifier: Apache-2.0
"""``perception doctor``: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from perception_node.cli import EXIT_ENVIRONMENT, EXIT_OK
from perception_node.doctor.delivery_findings import check_drivers, check_images, find_delivery
from perception_node.doctor.doctor_report import make_report
from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding
from perception_node.doctor.gpu_findings import (
    check_gpu,
    check_importers,
    check_plans,
    check_pycuda,
    check_tensorrt,
    check_tensorrt_rtx,
)
from perception_node.doctor.http_findings import check_http
from perception_node.doctor.import_findings import check_commands, check_node, find_failures
from perception_node.doctor.jetpack_findings import check_jetpack
from perception_node.doctor.machine_findings import (
    check_jpeg,
    check_libraries,
    check_machine,
    check_model,
    check_onnxruntime,
    check_python,
    check_reports,
)
from perception_node.doctor.realtime_findings import check_locked_memory, check_priority
from perception_node.doctor.ros_findings import check_messages, check_ros
from perception_node.doctor.segment_findings import check_segments
from perception_node.doctor.transport_findings import (
    check_middleware,
    check_profile,
    check_shared_memory,
    check_socket_buffers,
)
from perception_node.installing import REPORT, install_missing, repair_command
from perception_node.printable import printable
from perception_node.terminal.output import note, say, say_marked, say_record

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXAMPLE = "perception doctor --json"
COLORS = {OK: "32", MISSING: "31", OPTIONAL: "33"}  # green, red, yellow
INDENT, NARROWEST = 25, 20  # of what is found: where it begins, how narrow it may become
SLOW = (find_delivery, find_failures)  # each waits for processes of its own

# The key is the finding's id in the JSON report: it never changes.
CHECKS: dict[str, Callable[[], Finding]] = {
    "python": check_python,
    "machine": check_machine,
    "ros": check_ros,
    "vision_msgs": check_messages,
    "middleware": check_middleware,
    "node": check_node,
    "commands": check_commands,
    "images": check_images,
    "drivers": check_drivers,
    "dds_profile": check_profile,
    "shared_memory": check_shared_memory,
    "dds_segments": check_segments,
    "udp_buffers": check_socket_buffers,
    "real_time": check_priority,
    "locked_memory": check_locked_memory,
    "libraries": check_libraries,
    "jpeg": check_jpeg,
    "onnxruntime": check_onnxruntime,
    "default_model": check_model,
    "gpu": check_gpu,
    "tensorrt": check_tensorrt,
    "pycuda": check_pycuda,
    "jetpack": check_jetpack,
    "plans": check_plans,
    "tensorrt_rtx": check_tensorrt_rtx,
    "model_import": check_importers,
    "reports": check_reports,
    "http": check_http,
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
