# SPDX-License-Identifier: Apache-2.0
"""Processes that a test has started, with all that these have started."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.builders import ROOT

VARIABLE = "PERCEPTION_TEST_FAMILY"
TIMEOUT_S = 60.0


class Family:
    """A program and its descendants, found by a variable of their environment."""

    def __init__(self, process, token):
        self.process = process
        self._mark = f"{VARIABLE}={token}".encode()

    def members(self):
        """Return the command lines of all that live, by number."""
        found = {}
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and self._mark in (folder / "environ").read_bytes():
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = words.decode(errors="replace").strip()
        return found

    def wait_for(self, *words):
        """Return the number of a member for each of the words that its command line has."""
        return wait_until(lambda: self._find(words), lambda: f"{words} in {self.members()}")

    def wait_until_gone(self):
        wait_until(lambda: not self.members(), self.members)

    def kill(self):
        """End the program as nobody can prevent."""
        self.process.kill()
        self.process.wait()

    def _find(self, words):
        # A script that is given as an argument names what it is about to start.
        members = {n: line for n, line in self.members().items() if "ended_with_us" not in line}
        found = [next((n for n, line in members.items() if w in line), None) for w in words]
        return found if None not in found else None


def wait_until(condition, what):
    end_s = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < end_s, what()
        time.sleep(0.02)
    return value


@contextmanager
def start_family(*command, **environment):
    """Start a program in a group of its own; whatever is left of it is killed in the end."""
    token = secrets.token_hex(8)
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        env={**os.environ, VARIABLE: token, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    family = Family(process, token)
    try:
        yield family
    finally:
        for number in family.members():
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        process.wait()
