# SPDX-License-Identifier: Apache-2.0
"""Wait until stdin ends, then end every process that has a mark in its environment.

    python -I -S guardian_process.py MARK

Started by ``guardian.py``. First with SIGTERM, so that a node leaves nothing in shared memory,
after a while with SIGKILL. It ends at once where there is no process to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

VARIABLE = b"PERCEPTION_STARTED_BY="
PATIENCE_S, LONGEST_S, POLL_S = 5.0, 15.0, 0.05
MOST_FILES = 4096
QUIET_LOOKS = 3  # a child that was forked and has not begun its program carries no mark yet


def carries(process: int, mark: str) -> bool:
    """Return whether a process of this user has the mark; one that has ended has not."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:  # noqa: PTH123 - pathlib is slow to load
            return VARIABLE + mark.encode() in file.read().split(b"\0")
    except OSError:  # it has ended, or is somebody else's
        return False


def find_marked(mark: str) -> list[int]:
    """Return the numbers of the processes that carry the mark."""
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [number for number in numbers if carries(number, mark)]


def send(process: int, number: int, mark: str) -> None:
    """Send a signal to a process that carries the mark; its number may pass on meanwhile."""
    try:
        handle = os.pidfd_open(process)
    except OSError:  # it has ended, or a container forbids the call
        if carries(process, mark):
            os.kill(process, number)
        return
    try:
        if carries(process, mark):
            signal.pidfd_send_signal(handle, number)
            signal.pidfd_send_signal(handle, signal.SIGCONT)  # one that is stopped
    finally:
        os.close(handle)


def end_all(mark: str) -> None:
    """End all, until three looks in a row find none."""
    begin_s = time.monotonic()
    asked = set()
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() - begin_s < LONGEST_S:
        is_patient = time.monotonic() - begin_s < PATIENCE_S
        marked = find_marked(mark)
        quiet = 0 if marked else quiet + 1
        for process in marked:
            if is_patient and process in asked:
                continue
            asked.add(process)
            with contextlib.suppress(OSError):
                send(process, signal.SIGTERM if is_patient else signal.SIGKILL, mark)
        time.sleep(POLL_S)


def main() -> None:
    """Wait and end; signals that a person sends to the command are not for this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, MOST_FILES)  # what the command itself was given
    os.chdir("/")
    while os.read(0, 4096):
        pass
    end_all(sys.argv[1])


if __name__ == "__main__":
    main()
