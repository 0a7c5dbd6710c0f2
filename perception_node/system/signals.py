# SPDX-License-Identifier: Apache-2.0
"""The signals that end a process. Light: imported before anything else of this package."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

ENDING = (signal.SIGINT, signal.SIGTERM)


class StopEvent:
    """A ``threading.Event`` that SIGINT and SIGTERM set; only the main thread may wait for it.

    With a handler that sets a ``threading.Event``, a signal is lost that comes just before the
    wait begins, as Python cannot run the handler any more; and one that comes while the wait holds
    the event's lock makes the handler wait for ever. Here the wait is for a pipe, into which the
    interpreter writes a signal's number at once, whichever thread the signal came to.
    """

    def __init__(self) -> None:
        """Catch the signals from now on, until the process ends."""
        self._is_set = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in ENDING:
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        """Tell whether it is set; from any thread."""
        return self._is_set

    def set(self) -> None:
        """Set it; from any thread."""
        self._is_set = True
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set; return False if that took longer than ``timeout_s``."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_set:
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            if not select.select([self._reader], [], [], left_s)[0]:
                return self._is_set
            if not set(ENDING).isdisjoint(os.read(self._reader, 512)):
                self._is_set = True  # the handler may not have run yet
        return True

    def _on_signal(self, *_: object) -> None:
        self._is_set = True


def ignore_signals() -> None:
    """Ignore further signals: Python would let one that comes while it ends kill the process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
