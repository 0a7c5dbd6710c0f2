# SPDX-License-Identifier: Apache-2.0
"""What the set-up asks of the machine. It starts on Python 3.7, like the set-up itself."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from arm64 import missing_compiler, no_ros_wheels

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
STAMP = "set-up.json"  # in each environment that the set-up has made


class Problem(Exception):
    """Something this machine lacks, with the command that helps."""


class CommandFailed(Problem):
    """A command failed; its output says why."""

    def __init__(self, words: list[str], output: str) -> None:
        super().__init__(f"this failed: {' '.join(words)}")
        self.output = output


def check_machine() -> None:
    """Raise `Problem` for what a step would fail on later, and less clearly."""
    check_python()
    if sourced("rclpy"):
        if not succeeds(base_python(), "-c", "import rclpy"):
            raise Problem(
                f"{base_python()} cannot import the sourced {sourced('rclpy')}; "
                "use the Python that ROS was built for: make PYTHON=/usr/bin/python3"
            )
    elif (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Problem(no_ros_wheels())
    missing = missing_compiler()  # with the Debian and Ubuntu packages
    if importlib.util.find_spec("ensurepip") is None:
        missing["the venv module"] = f"{VERSION}-venv"
    if not sourced("vision_msgs"):  # which is then compiled
        missing.update({tool: tool for tool in ("gcc", "g++", "make") if not shutil.which(tool)})
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            missing["Python.h"] = f"{VERSION}-dev"
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))  # one may be missing for two reasons
        raise Problem(f"missing {', '.join(missing)}: sudo apt install {packages}")


def check_python() -> None:
    """Raise `Problem` if this Python is not supported, or has no ROS."""
    version = sys.version_info[:2]
    if (3, 10) <= version <= (3, 13) or (version == (3, 14) and sourced("rclpy")):
        return
    where = f"{sys.executable} is {platform.python_version()}"
    if version == (3, 14):
        raise Problem(
            f"ROS comes as wheels for Python 3.10 to 3.13 only, {where}: source a ROS that was "
            "built for it (source /opt/ros/lyrical/setup.bash), or make PYTHON=python3.13"
        )
    raise Problem(
        f"Python 3.10 to 3.13 is needed, or 3.14 where ROS is sourced, {where}: "
        "sudo apt install python3 python3-venv python3-dev, then make PYTHON=/usr/bin/python3"
    )


def sourced(package: str) -> str:
    """Return where a sourced ROS has a Python package, or nothing."""
    if not (os.environ.get("ROS_DISTRO") and os.environ.get("AMENT_PREFIX_PATH")):
        return ""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    # An environment of ours that is activated looks like a sourced ROS, but is what is to be made.
    if any((folder / STAMP).exists() for folder in Path(found.origin).resolve().parents):
        return ""
    return found.origin


def base_python() -> str:
    """Return this interpreter, outside any virtual environment."""
    return str(Path(sys.base_exec_prefix) / "bin" / VERSION)


def run(*command: object) -> None:
    """Run a command and keep its output to itself; raise `CommandFailed`."""
    words = [str(word) for word in command]
    # pip.conf may ask for --user installs, which a virtual environment refuses.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    result = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if result.returncode:
        raise CommandFailed(words, result.stdout.decode(errors="replace"))


def succeeds(*command: str) -> bool:
    """Run a command silently."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
