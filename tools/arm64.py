# SPDX-License-Identifier: Apache-2.0
"""What an arm64 machine needs beyond others, for the set-up to say.

Standard library only, and it starts on Python 3.7, like the set-up.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

# Their wheels are for x86-64 only; tests/unit/test_lock_files.py compares this with the locks.
COMPILED = {"aarch64": ("hdrhistogram",)}
OS_RELEASE = Path("/etc/os-release")
ROS_OF_UBUNTU = {"22.04": "humble", "24.04": "jazzy", "26.04": "lyrical"}  # JetPack 6: 22.04
WITHOUT_ROS = (
    "without ROS, perception classify and perception serve run: python3 -m venv ~/perception && "
    "~/perception/bin/pip install '.[serve]'"
)


def missing_compiler() -> dict[str, str]:
    """Return what this machine lacks to compile them, each with its Debian or Ubuntu package."""
    names = COMPILED.get(platform.machine())
    if names is None:
        return {}
    missing = {}
    if not shutil.which("gcc"):
        missing["gcc"] = "gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing["Python.h"] = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    reason = f"to compile {', '.join(names)}"
    return {f"{what} ({reason})": package for what, package in missing.items()}


def no_ros_wheels() -> str:
    """Return, for a machine that ROS has no wheels for, what to install: one line."""
    system = OS_RELEASE.read_text(encoding="utf-8") if OS_RELEASE.exists() else ""
    entries = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', system, re.MULTILINE))
    ubuntu = entries.get("VERSION_ID", "") if entries.get("ID") == "ubuntu" else ""
    ros = ROS_OF_UBUNTU.get(ubuntu)
    if ros:
        advice = (
            f"install ROS 2 {ros.capitalize()}, then: source /opt/ros/{ros}/setup.bash && make"
        )
    else:
        pairs = (f"{name.capitalize()} on {number}" for number, name in ROS_OF_UBUNTU.items())
        advice = f"ROS 2 has packages for arm64 on Ubuntu ({', '.join(pairs)}); source it first"
    here = f"{platform.system()} on {platform.machine()}"
    problem = f"ROS comes as wheels for x86-64 Linux only, this is {here}"
    return f"{problem}: {advice}; {WITHOUT_ROS}"
