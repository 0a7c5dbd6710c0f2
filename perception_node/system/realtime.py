# SPDX-License-Identifier: Apache-2.0
"""Real-time scheduling, CPUs, locked memory and the garbage collector: asked for and taken back.

Nothing here is fatal: what the kernel refuses comes with the command that would grant it.
"""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from perception_node.config.cpus import parse_cpus
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
    format_cpus,
    is_ours,
    may_schedule,
    set_cpus,
    set_policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.config.sections import RealTimeConfig

PR_SET_NAME = 15  # linux/prctl.h
THREAD_NAME_BYTES = 15


def name_thread(name: str) -> None:
    """Name the calling thread for ``top -H``, ``ps -L`` and ``perf``; 15 bytes are shown.

    Python itself does this from 3.14 on. On the main thread it renames the process. Where it
    cannot be done the thread keeps its name.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        shown = name.encode(errors="replace")[:THREAD_NAME_BYTES]
        prctl(PR_SET_NAME, shown.decode(errors="ignore").encode())  # no half characters


class RealTimeSetup:
    """Sets this process up as configured, and puts everything back. Used from one thread."""

    def __init__(self, config: RealTimeConfig) -> None:
        self._config = config
        self._undo = ExitStack()

    def apply(
        self,
        executor_threads: Sequence[int],
        worker_threads: Sequence[int],
    ) -> list[Grant]:
        """Do what is configured and return one answer for each wish; nothing is raised.

        A wish that is refused changes nothing. A thread that has ended is passed over.

        Args:
            executor_threads: native ids (``Thread.native_id``) of the threads that answer
                services and watch the engine.
            worker_threads: those of the frame loop and its engines.

        """
        config, grants = self._config, []
        if config.lock_memory:
            grants.append(self._lock_memory())
        for who, threads, cpus in (
            ("executor", executor_threads, parse_cpus(config.executor_cpus)),
            ("worker", worker_threads, parse_cpus(config.worker_cpus)),
        ):
            if cpus:
                what = f"CPUs {format_cpus(cpus)} for the {who}"
                grants.append(self._change(what, threads, partial(set_cpus, cpus), advise_on_cpus))
        if config.freeze_garbage:
            grants.append(self._freeze_garbage())
        if config.disable_garbage_collection:
            grants.append(self._disable_garbage_collection())
        if (
            config.scheduling_policy != "other"
        ):  # last: what takes long above must not hold up a CPU
            grants.append(self._schedule(executor_threads, worker_threads))
        return grants

    def undo(self) -> None:
        """Put everything back as ``apply`` found it; may be called again, or for nothing."""
        self._undo.close()

    def _schedule(self, executor_threads: Sequence[int], worker_threads: Sequence[int]) -> Grant:
        # Real-time for all: they take turns in holding Python's lock, and an ordinary thread that
        # is kept from its CPU while it holds the lock stops the urgent ones as well. The worker is
        # one below: where its engine hangs and spins, the supervisor must get the CPU.
        policy = f"SCHED_{self._config.scheduling_policy.upper()}"
        priority = self._config.scheduling_priority
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
