# SPDX-License-Identifier: Apache-2.0
"""Tells an engine that hangs from one that was kept from its work.

A clock alone cannot: on a busy machine, in a container with a fifth of a CPU, or after the process
was stopped, a healthy engine takes many times as long. What counts is what its threads did.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOKS = 10  # per timeout, by those who watch
_HELD_UP = frozenset("RTt")  # runnable, or stopped
# Where the kernel keeps no account of waiting, a thread still has a clock: CPUCLOCK_PERTHREAD_MASK
# and CPUCLOCK_SCHED in include/linux/posix-timers.h.
_THREAD_CLOCK = 4 | 2
_MAJOR_FAULTS = 9  # field of /proc/PID/stat, counted from the state on; see proc_pid_stat(5)
_STARVED = 0.5  # of a pause: a thread that could run and got less was kept from a processor


class _Account(NamedTuple):
    """What a thread has done since it began, in seconds."""

    ran_s: float
    waited_s: float  # for a processor; known once it got one
    faults: int  # pages that were read back from the disk
    state: str

    @property
    def is_held_up(self) -> bool:
        """Whether it would run if it were let."""
        return self.state in _HELD_UP


class Standstill:
    """Adds up for how long an engine has had its chance and not answered.

    That is the time in which it ran, and the time in which it slept though nothing that it may
    wait for was kept from a processor: neither its own threads nor those of Python, which may hold
    Python's lock. Used from one thread.
    """

    def __init__(self, engine_threads: Iterable[int]) -> None:
        """Begin now; the threads are named by their native ids."""
        self._engine_threads = tuple(engine_threads)
        self._before: dict[int, _Account] = {}
        self._ran_s: dict[int, float] = {}
        self._slept_s = 0.0
        self.look(0.0)

    def look(self, pause_s: float) -> float:
        """Look again after a pause and return the sum, in seconds.

        Whoever asks may have overslept, like all else: more than the pause is not counted.
        """
        others = {t.native_id for t in threading.enumerate() if t.native_id is not None}
        others -= {threading.get_native_id(), *self._engine_threads}
        before, self._before = self._before, _read((*self._engine_threads, *others))
        engine = [self._change(before, thread) for thread in self._engine_threads]
        for thread, change in zip(self._engine_threads, engine, strict=True):
            self._ran_s[thread] = self._ran_s.get(thread, 0.0) + change.ran_s
        held_up_s = _held_up_s([self._change(before, thread) for thread in others], pause_s)
        if not any(change.is_held_up or change.faults for change in engine):
            awake_s = sum(change.ran_s + change.waited_s for change in engine)
            self._slept_s += max(0.0, pause_s - awake_s - held_up_s)
        return self._slept_s + max(self._ran_s.values(), default=0.0)

    def _change(self, before: dict[int, _Account], thread: int) -> _Account:
        """Return what a thread has done since the last look; nothing where that is not known."""
        now = self._before.get(thread)
        if now is None:
            return _Account(0.0, 0.0, 0, "")
        then = before.get(thread, now)
        return _Account(
            now.ran_s - then.ran_s,
            now.waited_s - then.waited_s,
            now.faults - then.faults,
            now.state,
        )


class OwnClock:
    """A steady clock that stands still while the slowest of some threads waits for a processor."""

    def __init__(self, threads: Iterable[int]) -> None:
        """Begin now; the threads are named by their native ids."""
        self._before = _read(threads)
        self._last_ns = 0

    def now_ns(self) -> int:
        """Return the time in nanoseconds, from a begin of its own; it never goes back."""
        now = _read(self._before)
        # A wait is known once it is over, and may have begun before this clock.
        waits_s = (now[one].waited_s - self._before[one].waited_s for one in now)
        own_ns = time.monotonic_ns() - int(max(waits_s, default=0.0) * 1e9)
        self._last_ns = max(self._last_ns, own_ns)
        return self._last_ns


def _held_up_s(others: list[_Account], pause_s: float) -> float:
    """Return how much of a pause other threads were kept from a processor."""
    if any(other.is_held_up and other.ran_s < _STARVED * pause_s for other in others):
        return pause_s
    return max((other.waited_s for other in others), default=0.0)


def _read(threads: Iterable[int]) -> dict[int, _Account]:
    """Read the accounts of those threads that still run."""
    accounts = {}
    for thread in threads:
        try:
            fields = _read_file(thread, "stat").rpartition(")")[2].split()
            ran_s, waited = _read_times(thread)
        except OSError:  # it has ended
            continue
        accounts[thread] = _Account(ran_s, waited, int(fields[_MAJOR_FAULTS]), fields[0])
    return accounts


def _read_times(thread: int) -> tuple[float, float]:
    """Return for how long a thread ran and waited to run, in seconds.

    Raises:
        OSError: it has ended.

    """
    try:
        ran_ns, waited_ns, _ = _read_file(thread, "schedstat").split()
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO: waiting shows in the state
        return time.clock_gettime((~thread << 3) | _THREAD_CLOCK), 0.0
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


def _read_file(thread: int, name: str) -> str:
    # Not by pathlib, which keeps the parts of a path: each thread has another number.
    with open(f"/proc/self/task/{thread}/{name}", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        return file.read()
