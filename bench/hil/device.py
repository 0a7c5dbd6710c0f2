# SPDX-License-Identifier: Apache-2.0
"""The node under test where this host starts it; started again as a launch file does."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from perception_node.bench.process_watch import WatchedNode
from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from perception_node.bench.hil.record import HilRecord
    from perception_node.bench.hil.scenario import Scenario
    from perception_node.config.parameter import Value

PYTHON = "python3"  # in a scenario: the interpreter that runs this command
RESPAWN_DELAY_S = 2.0  # that of launch/perception.launch.py


class _Process(WatchedNode):
    """A node that can be killed."""

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()


class LocalDevice:
    """Runs the node from entering to leaving; its log goes to the record."""

    def __init__(self, scenario: Scenario, record: HilRecord) -> None:
        """Prepare the command line."""
        node, camera = scenario.node, scenario.camera
        self._parameters: dict[str, Value] = {
            "autostart": True,
            "image_transport": camera.transport,
            **node.parameters,
        }
        namespace, _, name = node.target.rpartition("/")
        self._remaps = {"image": "/" + camera.topic.lstrip("/")}
        if node.target != "/perception":
            self._remaps |= {"__node": name, "__ns": namespace or "/"}
        self._command, self._respawn = node.command, node.respawn
        if self._command[:1] == (PYTHON,):
            self._command = (sys.executable, *self._command[1:])
        self._record = record
        self._process: _Process | None = None
        self._killed = False
        self._start_s = 0.0  # when it is to be started again

    def __enter__(self) -> LocalDevice:
        """Start the node.

        Raises:
            ConfigError: its command cannot be started.

        """
        self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End it, however that may be."""
        self._close()

    def require_alive(self) -> None:
        """Raise ``EnvironmentLacks`` with the last log line if the process has ended."""
        if self._process is not None:
            self._process.require_alive()

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self._process.log() if self._process is not None else self._record.log
        return (lines or ["it logged nothing"])[-1]

    def watch(self) -> None:
        """Notice that the process has ended, and start it again when it is time."""
        if self._process is None:
            if self._respawn and time.monotonic() >= self._start_s:
                self._start()
        elif self._process.poll() is not None:
            self._record.unexpected_ends += not self._killed
            self._close()
            self._start_s = time.monotonic() + RESPAWN_DELAY_S

    def kill(self) -> str:
        """End the process with SIGKILL; return why that was not possible, or nothing."""
        if self._process is None:
            return "the process does not run"
        self._killed = True
        self._process.kill()
        self.watch()
        return ""

    def end(self) -> None:
        """End it with SIGTERM and note its exit code."""
        if self._process is not None:
            self._record.exit_code = self._process.end()
            self._close()

    def _start(self) -> None:
        process = _Process(self._parameters, self._remaps, self._command)
        try:
            process.__enter__()
        except OSError as error:
            words = " ".join(self._command) or sys.executable
            msg = f"node.command: {words} cannot be started: {error.strerror}"
            raise ConfigError(msg) from error
        self._process, self._killed = process, False

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.end()
            self._record.log += process.log()
            process.__exit__()
