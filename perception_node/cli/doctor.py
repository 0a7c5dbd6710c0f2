# SPDX-License-Identifier: Apache-2.0
"""``perception doctor``: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from perception_node import __version__
from perception_node.bundle import load_bundle
from perception_node.cli import EXIT_ENVIRONMENT, EXIT_OK
from perception_node.cli.findings import MISSING, OK, OPTIONAL, Finding, read_text
from perception_node.cli.gpu_findings import (
    check_gpu,
    check_importers,
    check_jetson,
    check_plans,
    check_pycuda,
    check_tensorrt,
    check_tensorrt_rtx,
)
from perception_node.cli.http_findings import check_http
from perception_node.cli.realtime_findings import check_locked_memory, check_priority
from perception_node.cli.segment_findings import check_segments
from perception_node.cli.transport_findings import (
    check_middleware,
    check_profile,
    check_shared_memory,
    check_socket_buffers,
)
from perception_node.errors import PerceptionError, pip_install
from perception_node.resources import find_model

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXAMPLE = "perception doctor --json"
COLORS = {OK: "green", MISSING: "red", OPTIONAL: "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--json", action="store_true", help="a JSON list, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 3 if something the node needs is missing."""
    findings = [check() for check in CHECKS]
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings]) + "\n")
    else:
        _print(findings)
    is_complete = all(finding.state != MISSING for finding in findings)
    return EXIT_OK if is_complete else EXIT_ENVIRONMENT


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        state = f"[{COLORS[finding.state]}]{finding.state:<8}[/]"
        console.print(f"{state}  {finding.subject:<13}  {escape(finding.found)}")
        if finding.advice:
            console.print(f"{'':<25}-> {escape(finding.advice)}")


def check_python() -> Finding:
    """Look at the interpreter and this package."""
    found = f"{platform.python_version()} ({sys.executable}), perception_node {__version__}"
    return Finding("Python", OK, found)


def check_machine() -> Finding:
    """Look at the processor and how its clock is governed."""
    governor = read_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    found = f"{platform.machine()}, {os.cpu_count()} cores, governor {governor or 'unknown'}"
    if governor in {"powersave", "schedutil", "ondemand"}:
        advice = "for steady latency: sudo cpupower frequency-set -g performance"
        return Finding("machine", OK, found, advice)
    return Finding("machine", OK, found)


def check_ros() -> Finding:
    """Look for rclpy."""
    advice = "source /opt/ros/jazzy/setup.bash, or in the checkout: make setup"
    try:
        importlib.import_module("rclpy")
    except ImportError as error:
        return Finding("ROS 2", MISSING, str(error), advice)
    return Finding("ROS 2", OK, f"{os.environ.get('ROS_DISTRO', 'unknown distribution')}, rclpy")


def check_messages() -> Finding:
    """Look for vision_msgs."""
    try:
        importlib.import_module("vision_msgs.msg")
    except ImportError as error:
        distribution = os.environ.get("ROS_DISTRO", "jazzy")
        advice = f"sudo apt install ros-{distribution}-vision-msgs"
        return Finding("vision_msgs", MISSING, str(error), advice)
    return Finding("vision_msgs", OK, "Classification, LabelInfo, VisionInfo")


def check_onnxruntime() -> Finding:
    """Look at ONNX Runtime and its providers."""
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        return Finding("ONNX Runtime", MISSING, str(error), pip_install("onnxruntime"))
    providers = ", ".join(ort.get_available_providers())
    return Finding("ONNX Runtime", OK, f"{ort.__version__}: {providers}")


def check_libraries() -> Finding:
    """Look at the other packages that the node and the command line import."""
    names = ("numpy", "cv2", "jsonschema", "rosbags", "rich")
    missing = _missing_of(names)
    if missing:
        advice = "rosdep install --from-paths src --ignore-src -y"
        return Finding("libraries", MISSING, f"no {', '.join(missing)}", advice)
    numpy, cv2 = (importlib.import_module(name) for name in ("numpy", "cv2"))
    found = f"numpy {numpy.__version__}, OpenCV {cv2.__version__}, {', '.join(names[2:])}"
    return Finding("libraries", OK, found)


def check_reports() -> Finding:
    """Look for the packages with which benchmarks and tests report."""
    names = ("hdrh", "jinja2", "junitparser", "matplotlib", "PIL", "yaml")
    missing = _missing_of(names)
    if missing:
        found = f"no {', '.join(missing)}: without perception bench, hil, replay --report"
        advice = "pip install hdrhistogram jinja2 junitparser matplotlib pillow pyyaml"
        return Finding("reports", OPTIONAL, found, advice)
    return Finding("reports", OK, ", ".join(names))


def _missing_of(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


def check_model() -> Finding:
    """Read the default model bundle and compare its digests."""
    try:
        bundle = load_bundle(find_model(""))
        bundle.read()
    except PerceptionError as error:
        return Finding("default model", MISSING, str(error), "copy the bundle again")
    return Finding("default model", OK, f"{bundle.manifest.name} ({bundle.path})")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_machine,
    check_ros,
    check_messages,
    check_middleware,
    check_profile,
    check_shared_memory,
    check_segments,
    check_socket_buffers,
    check_priority,
    check_locked_memory,
    check_libraries,
    check_onnxruntime,
    check_model,
    check_gpu,
    check_tensorrt,
    check_pycuda,
    check_jetson,
    check_plans,
    check_tensorrt_rtx,
    check_importers,
    check_reports,
    check_http,
)
