# SPDX-License-Identifier: Apache-2.0
"""Measure in a fresh process: a task goes in, a row comes out for each frame, at last a result.

All of it is lines of JSON through pipes. What the process does before its first frame, and what
its parent did before, are no part of what is measured.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from perception_node.errors import ConfigError, EnvironmentLacks, PerceptionError
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = list[int]

FLUSH_PERIOD_S = 0.25
MAX_LINE = 300


def run_measurement(
    module: str, task: dict[str, Any], on_row: Callable[[Row], None] = lambda _: None
) -> dict[str, Any]:
    """Run a module that calls ``answer``, and return its result.

    Whatever ends this early, such as Ctrl-C, also ends the process.

    Args:
        module: name of the module.
        task: what it shall do, as plain values.
        on_row: called with each row, a fraction of a second after it was written.

    Raises:
        ConfigError: the task has no meaning, or its model cannot be used.
        EnvironmentLacks: the process lacks something, or has ended without a result.

    """
    command = (sys.executable, "-m", module)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=ended_with_us(),
        ) as child,
    ):
        try:
            last = _exchange(child, task, on_row)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        if "result" not in last:
            _raise(last, f"{module} ended with code {code}: {_last_line(log)}")
    result: dict[str, Any] = last["result"]
    return result


def answer(work: Callable[[dict[str, Any], Callable[[Row], None]], dict[str, Any]]) -> None:
    """Do the task that the parent has sent; ``work`` gets it and a function that sends a row."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as pipe:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no JSON
        last: dict[str, Any]
        try:
            last = {"result": work(json.load(sys.stdin), RowWriter(pipe))}
        except PerceptionError as error:
            last = {"error": str(error), "lacks": isinstance(error, EnvironmentLacks)}
        pipe.write(f"{json.dumps(last)}\n")


class RowWriter:
    """Writes rows and hands them over a few times a second: a system call for each would cost."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._flushed_s = time.monotonic()

    def __call__(self, row: Row) -> None:
        """Write one row."""
        self._pipe.write(f"{row}\n")
        now_s = time.monotonic()
        if now_s - self._flushed_s >= FLUSH_PERIOD_S:
            self._flushed_s = now_s
            self._pipe.flush()


def _exchange(
    child: subprocess.Popen[str], task: dict[str, Any], on_row: Callable[[Row], None]
) -> dict[str, Any]:
    """Send the task, pass the rows on, return the last line; empty if there is none."""
    assert child.stdin is not None  # noqa: S101 - for mypy: both are pipes
    assert child.stdout is not None  # noqa: S101
    with suppress(BrokenPipeError), child.stdin:  # its log says why
        child.stdin.write(json.dumps(task))
    last: dict[str, Any] = {}
    for line in child.stdout:
        with suppress(ValueError):  # half a line, of a process that was killed
            content = json.loads(line)
            if isinstance(content, dict):
                last = content
            else:
                on_row(content)
    return last


def _raise(last: dict[str, Any], ending: str) -> None:
    if "error" not in last:
        raise EnvironmentLacks(ending)
    raise (EnvironmentLacks if last["lacks"] else ConfigError)(last["error"])


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:MAX_LINE] if lines else "it said nothing"
