# SPDX-License-Identifier: Apache-2.0
"""A process that measures: told what to do as JSON, it answers with records on a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perception_node.errors import EnvironmentLacks
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_BYTES = 1 << 20  # a child must never wait for us to read
END_TIMEOUT_S = 5.0


class ChildProcess:
    """Runs a module of this package from entering to leaving.

    Attributes:
        received: what it wrote and nobody has taken yet.

    """

    def __init__(self, name: str, module: str, task: dict[str, Any]) -> None:
        """Prepare; ``name`` is what errors call it."""
        self.received = bytearray()
        self._name = name
        self._command = [sys.executable, "-m", module, json.dumps(task, default=str)]

    def __enter__(self) -> ChildProcess:
        """Start it; its errors go to a file."""
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=ended_with_us(),
        )
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        self._output = output.fileno()
        os.set_blocking(self._output, False)
        with suppress(OSError):  # the limit for a user who is not root may be lower
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return self

    def __exit__(self, *exception: object) -> None:
        """Ask it to end; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()

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
        code = self._process.poll()
        if code is not None:
            msg = f"the {self._name} process ended with code {code}: {self._last_line()}"
            raise EnvironmentLacks(msg)

    def _last_line(self) -> str:
        number = self._errors.fileno()
        content = os.pread(number, os.fstat(number).st_size, 0)
        return (content.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


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
