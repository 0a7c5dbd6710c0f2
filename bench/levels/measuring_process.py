# SPDX-License-Identifier: Apache-2.0
"""Measure in a fresh process: a task goes in, a row comes out for each frame, at last a result.

Rows and result are lines of JSON. What the process does before its first frame, and what its
parent did before, are no part of what is measured.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from perception_node.bench.levels.child_process import ChildProcess, take_task
from perception_node.errors import ConfigError, EnvironmentLacks, PerceptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = list[int]

FLUSH_PERIOD_S, POLL_S = 0.25, 0.1


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
    with ChildProcess("measuring", module, task) as child:
        while True:
            child.receive()
            *lines, child.received = child.received.split(b"\n")
            for content in map(json.loads, lines):
                if isinstance(content, list):
                    on_row(content)
                elif "error" in content:
                    raise (EnvironmentLacks if content["lacks"] else ConfigError)(content["error"])
                else:
                    result: dict[str, Any] = content["result"]
                    return result
            time.sleep(POLL_S)


def answer(work: Callable[[dict[str, Any], Callable[[Row], None]], dict[str, Any]]) -> None:
    """Do the task that the parent has sent; ``work`` gets it and a function that sends a row."""
    task, write = take_task()
    rows = RowWriter(write)
    last: dict[str, Any]
    try:
        last = {"result": work(task, rows)}
    except PerceptionError as error:
        last = {"error": str(error), "lacks": isinstance(error, EnvironmentLacks)}
    rows.flush()
    write(f"{json.dumps(last)}\n".encode())
    sys.stdin.read()  # the parent ends this process when it has read all


class RowWriter:
    """Writes rows and hands them over a few times a second: a system call for each would cost."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write, self._lines = write, list[str]()
        self._flushed_s = time.monotonic()

    def __call__(self, row: Row) -> None:
        """Write one row."""
        self._lines.append(f"{row}\n")
        if time.monotonic() - self._flushed_s >= FLUSH_PERIOD_S:
            self.flush()

    def flush(self) -> None:
        """Hand over what was written since the last time."""
        self._write("".join(self._lines).encode())
        self._lines.clear()
        self._flushed_s = time.monotonic()
