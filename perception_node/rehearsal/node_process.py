# SPDX-License-Identifier: Apache-2.0
"""The real node, or another program, in a process of its own that is watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.config.parameter import Value

STOP_TIMEOUT_S = 5.0
NO_LOG = "it logged nothing"
Started = TypeVar("Started", bound="Program")


class Program:
    """Starts a command on entering and ends it with SIGTERM on leaving."""

    name = "the program"
    stop_timeout_s = STOP_TIMEOUT_S  # after SIGTERM

    def __init__(self, command: Sequence[str]) -> None:
        """Prepare to start ``command``."""
        self._command = list(command)
        self._lines: list[str] = []  # of its log, once that is closed

    def __enter__(self: Started) -> Started:
        """Start the process; its log goes to a file.

        Raises:
            ConfigError: the command cannot be started.

        """
        self._log = tempfile.TemporaryFile()
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process; kill it if it does not end by itself."""
        self.end()
        self._lines = self.log()
        self._log.close()

    def start(self) -> None:
        """Start the process, or another one after its end; the log goes on.

        Raises:
            ConfigError: the command cannot be started.

        """
        try:
            self._process = subprocess.Popen(
                self._command,
                stderr=self._log,
                bufsize=0,
                env=ended_with_us(),
                **self._pipes(),
            )
        except OSError as error:
            self._log.close()
            msg = f"{self._command[0]} cannot be started: {error.strerror}"
            raise ConfigError(msg) from error

    def _pipes(self) -> dict[str, Any]:
        """Return where its other streams lead to."""
        return {"stdout": self._log}

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return its exit code, None while it runs; negative if a signal has killed it."""
        return self._process.poll()

    def end(self) -> int:
        """End the process with SIGTERM and return its exit code; negative if it was killed."""
        self._process.terminate()
        try:
            return self._process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the process with SIGKILL and return its exit code."""
        self._process.kill()
        return self._process.wait()

    def cpu_s(self) -> float:
        """Return the processor time the process has used, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def log(self) -> list[str]:
        """Return the lines it has logged so far; the place it writes at stays."""
        if self._log.closed:
            return self._lines
        number = self._log.fileno()
        content = os.pread(number, os.fstat(number).st_size, 0)
        return content.decode(errors="replace").splitlines()

    @property
    def last_line(self) -> str:
        """Return the last line of its log."""
        return (self.log() or [NO_LOG])[-1]

    def require_alive(self) -> None:
        """Raise ``EnvironmentLacks`` with the last log line if the process has ended."""
        if self.exit_code is not None:
            msg = f"{self.name} ended with code {self.exit_code}: {self.last_line}"
            raise EnvironmentLacks(msg)


class NodeProcess(Program):
    """Starts ``perception_node`` on entering and ends it with SIGTERM on leaving."""

    name = "the node"

    def __init__(
        self,
        parameters: dict[str, Value],
        remaps: dict[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """Prepare the command line.

        Args:
            parameters: of the node.
            remaps: topics, from our name to the camera's; ``__ns`` is its namespace.
            command: what starts the node, without ROS arguments; empty for the node as it is.

        """
        program = command or (sys.executable, "-m", "perception_node.ros.main")
        line = [*program, "--ros-args"]
        for name, value in parameters.items():
            line += ["-p", f"{name}:={to_argument(value)}"]
        for ours, theirs in (remaps or {}).items():
            line += ["-r", f"{ours}:={theirs}"]
        super().__init__(line)


def to_argument(value: Value) -> str:
    """Return a parameter's value as the command line takes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
