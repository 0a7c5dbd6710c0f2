# SPDX-License-Identifier: Apache-2.0
"""End what this process has started when it ends itself, also when it is killed.

A command that is killed with SIGKILL can end no process any more: its nodes would go on, use the
camera and answer the next command. So a second, small process (``guardian_process.py``) waits
until the command is gone, and then ends whoever carries its mark: children, and what they have
started. The mark is a variable of the environment, since it comes before the first instruction of
a child, stays through ``exec`` and ``setsid``, and cannot be another process's by chance, as a
number of a process can. The kernel's own PR_SET_PDEATHSIG knows children only, forgets them with
the thread that started them, and has to be set in the child.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "PERCEPTION_STARTED_BY"
PROGRAM = Path(__file__).with_name("guardian_process.py")
_lock = threading.Lock()
_marks: dict[int, str] = {}  # by the process that made them: a fork has none of its own yet


def ended_with_us(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a process that shall not outlive this one.

    ``environment`` is what it shall have else; by default that of this process. The first call
    starts the guardian.
    """
    with _lock:
        mark = _marks.get(os.getpid())
        if mark is None:
            mark = _marks[os.getpid()] = secrets.token_hex(16)
            _start_guardian(mark)
    return {**(os.environ if environment is None else environment), MARK: mark}


def _start_guardian(mark: str) -> None:
    """Start it in a session of its own, so that no signal for a group of processes ends it."""
    reading, _ours = os.pipe()  # no other process gets the second, so it ends with us
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", str(PROGRAM), mark],
        # Without the mark of who has started us: it has to end ours once we are ended for it.
        {name: value for name, value in os.environ.items() if name != MARK},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_DUP2, null, 1),
            (os.POSIX_SPAWN_DUP2, null, 2),
        ],
        setsid=True,
    )
    os.close(reading)
    os.close(null)
