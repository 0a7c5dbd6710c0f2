# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says of the ROS that this shell has sourced."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path

from perception_node.doctor.findings import MISSING, OK, OPTIONAL, Finding, once, run
from perception_node.installing import (
    RELEASES,
    REPORT,
    install_command,
    repair_command,
    ros_release,
    source_command,
)

HAS_RAISED = 77
TRY_RCLPY = f"""
import sys
try:
    import rclpy
except ImportError:
    sys.exit({HAS_RAISED})
"""
LOG_PLACE = re.compile(r"^(\[[^]]*\][: ]*)*|, at /.*$")  # level, time and logger; file of rcl
ROOT = Path("/opt/ros")


def check_ros() -> Finding:
    """Import rclpy, and tell whether its release is one that we run on."""
    if failure := find_rclpy_failure():
        return Finding("ROS 2", MISSING, *failure)
    release = os.environ.get("ROS_DISTRO", "")
    found = f"{release or 'unknown release'}, rclpy {rclpy_version() or 'of unknown version'}"
    if release in RELEASES:
        return Finding("ROS 2", OK, found)
    advice = f"we run on {', '.join(name.capitalize() for name in RELEASES)}"
    return Finding("ROS 2", OPTIONAL, f"{found}, which we have not tried", advice)


@once
def find_rclpy_failure() -> tuple[str, str] | None:
    """Return why rclpy cannot be imported and what to do about it, None where it can be.

    Another process tries it: rclpy ends one in which its middleware cannot be loaded.
    """
    child = run([sys.executable, "-c", TRY_RCLPY])
    if child.returncode in (0, HAS_RAISED):
        try:
            import_module("rclpy")
        except ImportError as error:
            return str(error).splitlines()[0], _advise(error)
        return None
    last = (child.stderr.strip() or "it does not say why").splitlines()[-1]
    problem = f"rclpy ends with code {child.returncode}: {LOG_PLACE.sub('', last)}"
    middleware = os.environ.get("RMW_IMPLEMENTATION")
    return problem, install_command(middleware) if middleware else REPORT


def rclpy_version() -> str:
    """Return the version of the rclpy that Python finds, "" where it does not say."""
    if find_rclpy_failure():
        return ""
    try:
        from perception_node.ros.compat import find_version
    except ImportError:
        return ""
    return find_version()


def check_messages() -> Finding:
    """Look for vision_msgs."""
    try:
        import_module("vision_msgs.msg")
    except ImportError as error:
        problem = str(error).splitlines()[0]
        advice = "see ROS 2" if find_rclpy_failure() else repair_command(error)
        return Finding("vision_msgs", MISSING, problem, advice, ("vision_msgs",))
    return Finding("vision_msgs", OK, "Classification, LabelInfo, VisionInfo")


def _advise(error: ImportError) -> str:
    """Say how to get rclpy; sourcing helps only where a ROS is installed."""
    if source_command() not in (advice := repair_command(error)):
        return advice
    if any(ROOT.glob("*/setup.bash")):
        return advice
    release = ros_release()
    if release in RELEASES:
        return (
            f"in the checkout: make setup (or install ROS 2, docs.ros.org/en/{release}: {advice})"
        )
    return "in the checkout: make setup"
