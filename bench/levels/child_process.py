# SPDX-License-Identifier: Apache-2.0
"""A process that measures: told what to do as JSON, it answers with records on a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perception_node.errors import ConfigError, EnvironmentLacks, PerceptionError
from perception_node.rehearsal.node_process import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = list[int]


PIPE_BYTES = 1 << 20  # a child must never wait for us to read


class ChildProcess(Program):
    """Runs a module of this package from entering to leaving; its errors are its log.

    Attributes:
        received: what it wrote and nobody has taken yet.

    """

    def __init__(self, name: str, module: str, task: dict[str, Any]) -> None:
        """Prepare; ``name`` is what errors call it."""
        super().__init__([sys.executable, "-m", module, json.dumps(task, default=str)])
        self.received = bytearray()
        self.name = f"the {name} process"

    def __enter__(self) -> ChildProcess:
        """Start it."""
        super().__enter__()
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        self._output = output.fileno()
        os.set_blocking(self._output, False)
        with suppress(OSError):  # the limit for a user who is not root may be lower
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return self

    def __exit__(self, *exception: object) -> None:
        """Ask it to end; kill it if it does not."""
        super().__exit__(*exception)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _pipes(self) -> dict[str, Any]:
        return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def tell(self, word: str) -> None:
        """Write one line to it."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # receive() says why
            self._process.stdin.write(f"{word}\n".encode())

    def receive(self) -> None:
        """Add what it has written to ``received``.

        Raises:
            EnvironmentLacks: it has ended; says its last words.

        """
        with suppress(BlockingIOError):
            while data := os.read(self._output, PIPE_BYTES):
                self.received += data
        self.require_alive()


def take_task() -> tuple[dict[str, Any], Callable[[bytes], None]]:
    """Return, in the child, what to do and how to write a record.

    Whatever a library prints goes to stderr from here on. SIGINT is the parent's: it decides when
    this process ends. SIGTERM ends it in order, so that no shared memory is left behind.
    """
    pipe = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)

    def write(record: bytes) -> None:
        try:
            os.write(pipe, record)
        except BrokenPipeError:
            raise SystemExit(0) from None  # the parent is gone

    task: dict[str, Any] = json.loads(sys.argv[1])
    return task, write


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)


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
