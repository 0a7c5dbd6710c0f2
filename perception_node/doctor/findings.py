# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` finds, and how it asks the machine."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OK, MISSING, OPTIONAL = "ok", "missing", "optional"
COMMAND_TIMEOUT_S = 5
RUN_MODULE = """
import runpy, sys
_, name, *sys.path[:] = sys.argv
sys.argv[1:] = []
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked for.
        state: ``ok``, ``missing`` (the node or a command cannot run) or ``optional`` (they can).
        found: what is here.
        advice: what to do, empty where nothing needs to be done.
        lacks: Python modules that are not here and that ``install_command`` installs.

    """

    subject: str
    state: str
    found: str
    advice: str = ""
    lacks: tuple[str, ...] = ()


def once(ask: Callable[[], T]) -> Callable[[], T]:
    """Let several findings share one answer, also where they are made at the same time."""
    lock, cached = threading.Lock(), functools.cache(ask)

    def answer() -> T:
        with lock:
            return cached()

    return answer


def run_module(name: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own, in which the same packages are found as in this one.

    With ``-m``, those in the working directory would come first, such as another checkout.

    Raises:
        subprocess.TimeoutExpired: it takes too long; what it has written is with the error.

    """
    return run([sys.executable, "-c", RUN_MODULE, name, *sys.path], timeout_s)


def run(command: list[str], timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it takes too long.

    """
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=ended_with_us(),
    )


def read_text(path: Path) -> str | None:
    """Return the content of a file, None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def output_of(command: list[str]) -> str:
    """Return the output of a command on one line, empty where it is not here or fails."""
    try:
        result = run(command, COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(result.stdout.split()) if result.returncode == 0 else ""


def version_of(package: str) -> str:
    """Return the version of an installed package without importing it, "" if it is not here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
