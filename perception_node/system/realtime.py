# SPDX-License-Identifier: Apache-2.0
"""Real-time scheduling, CPUs, locked memory and the garbage collector: asked for and taken back.

Nothing here is fatal: what the kernel refuses comes with the command that would grant it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError, quote
from perception_node.system.grants import (
    Grant,
    advise_on_cpus,
    advise_on_memory,
    advise_on_scheduling,
)
from perception_node.system.process import (
    freeze_garbage,
    lock_memory,
    unfreeze_garbage,
    unlock_memory,
)
from perception_node.system.threads import (
    MAX_CPUS,
    format_cpus,
    is_ours,
    may_schedule,
    set_cpus,
    set_policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLICIES = ("other", "fifo", "rr")
MAX_PRIORITY = 99
PR_SET_NAME = 15  # linux/prctl.h
THREAD_NAME_BYTES = 15
CPU_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def name_thread(name: str) -> None:
    """Name the calling thread for ``top -H``, ``ps -L`` and ``perf``; 15 bytes are shown.

    Python itself does this from 3.14 on. On the main thread it renames the process. Where it
    cannot be done the thread keeps its name.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        shown = name.encode(errors="replace")[:THREAD_NAME_BYTES]
        prctl(PR_SET_NAME, shown.decode(errors="ignore").encode())  # no half characters


def parse_cpus(text: str, name: str = "a list of CPUs") -> tuple[int, ...]:
    """Return the CPUs of a list such as ``0,2-3``, sorted, each once; empty text is no CPU.

    Args:
        text: numbers and ranges, as the kernel writes them.
        name: what ``text`` is, for the message of the error.

    Raises:
        ConfigError: it is no such list.

    """
    cpus: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        found = CPU_RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < MAX_CPUS:
            msg = f"{name} must be like 0,2-3 with numbers below {MAX_CPUS}, found {quote(text)}"
            raise ConfigError(msg)
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


@dataclass(frozen=True, slots=True)
class RealTimeRequest:
    """What a process wants from the kernel; the defaults ask for nothing.

    Attributes:
        policy: ``other`` leaves scheduling as it is, ``fifo`` and ``rr`` are the real-time ones.
        priority: 1 to 99, the higher the more urgent; for ``fifo`` and ``rr``.
        worker_cpus: the only CPUs of the frame loop and its engines; empty leaves them as they
            are.
        executor_cpus: the same for the executor and the supervisor.
        lock_memory: keep everything in RAM.
        freeze_garbage: hide all objects made so far from the garbage collector.
        disable_garbage_collection: never look for cycles; they then stay in memory.

    Raises:
        ConfigError: policy or priority do not exist.

    """

    policy: str = "other"
    priority: int = 1
    worker_cpus: tuple[int, ...] = ()
    executor_cpus: tuple[int, ...] = ()
    lock_memory: bool = False
    freeze_garbage: bool = False
    disable_garbage_collection: bool = False

    def __post_init__(self) -> None:
        """Check policy and priority."""
        if self.policy not in POLICIES:
            msg = f"scheduling policy must be one of {', '.join(POLICIES)}, found {self.policy!r}"
            raise ConfigError(msg)
        if not 1 <= self.priority <= MAX_PRIORITY:
            msg = f"scheduling priority must be 1 to {MAX_PRIORITY}, found {self.priority}"
            raise ConfigError(msg)


class RealTimeSetup:
    """Sets this process up as requested, and puts everything back. Used from one thread."""

    def __init__(self, request: RealTimeRequest) -> None:
        self._request = request
        self._undo = ExitStack()

    def apply(
        self,
        executor_threads: Sequence[int],
        worker_threads: Sequence[int],
    ) -> list[Grant]:
        """Do what was requested and return one answer for each wish; nothing is raised.

        A wish that is refused changes nothing. A thread that has ended is passed over.

        Args:
            executor_threads: native ids (``Thread.native_id``) of the threads that answer
                services and watch the engine.
            worker_threads: those of the frame loop and its engines.

        """
        request, grants = self._request, []
        if request.lock_memory:
            grants.append(self._lock_memory())
        for who, threads, cpus in (
            ("executor", executor_threads, request.executor_cpus),
            ("worker", worker_threads, request.worker_cpus),
        ):
            if cpus:
                what = f"CPUs {format_cpus(cpus)} for the {who}"
                grants.append(self._change(what, threads, partial(set_cpus, cpus), advise_on_cpus))
        if request.freeze_garbage:
            grants.append(self._freeze_garbage())
        if request.disable_garbage_collection:
            grants.append(self._disable_garbage_collection())
        if request.policy != "other":  # last: what takes long above must not hold up a CPU
            grants.append(self._schedule(executor_threads, worker_threads))
        return grants

    def undo(self) -> None:
        """Put everything back as ``apply`` found it; may be called again, or for nothing."""
        self._undo.close()

    def _schedule(self, executor_threads: Sequence[int], worker_threads: Sequence[int]) -> Grant:
        # Real-time for all: they take turns in holding Python's lock, and an ordinary thread that
        # is kept from its CPU while it holds the lock stops the urgent ones as well. The worker is
        # one below: where its engine hangs and spins, the supervisor must get the CPU.
        policy, priority = f"SCHED_{self._request.policy.upper()}", self._request.priority
        number, worker_priority = getattr(os, policy), max(1, priority - 1)

        def change(thread: int) -> Callable[[], None]:
            is_worker = thread in worker_threads
            return set_policy(number, worker_priority if is_worker else priority, thread)

        return self._change(
            f"{policy} {priority} for the executor, {worker_priority} for the worker",
            [*executor_threads, *worker_threads],
            change,
            lambda: advise_on_scheduling(priority, is_permitted=may_schedule(priority)),
        )

    def _change(
        self,
        what: str,
        threads: Sequence[int],
        change: Callable[[int], Callable[[], None]],
        advise: Callable[[], str],
    ) -> Grant:
        """Change all threads or, where one is refused, none; ``change`` returns what undoes it."""
        running = [thread for thread in threads if is_ours(thread)]
        if not running:
            return Grant(what, "its threads have ended", "activate the node again")
        try:
            with ExitStack() as undo:
                for thread in running:
                    with suppress(ProcessLookupError):
                        undo.callback(change(thread))
                self._undo.callback(undo.pop_all().close)
        except OSError as error:
            return Grant(what, error.strerror or str(error), advise())
        return Grant(what)

    def _lock_memory(self) -> Grant:
        what = "all memory locked in RAM"
        try:
            lock_memory()
        except OSError as error:
            return Grant(what, error.strerror or str(error), advise_on_memory())
        self._undo.callback(unlock_memory)
        return Grant(what)

    def _freeze_garbage(self) -> Grant:
        freeze_garbage()
        self._undo.callback(unfreeze_garbage)
        return Grant("what was made so far hidden from the garbage collector")

    def _disable_garbage_collection(self) -> Grant:
        if gc.isenabled():
            gc.disable()
            self._undo.callback(gc.enable)
        return Grant("no garbage collection")
