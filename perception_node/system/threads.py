# SPDX-License-Identifier: Apache-2.0
"""Priority and CPUs of one thread. What changes something returns the function that undoes it.

Threads are named by their native ids, so that one thread can set up the others.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.config.cpus import MAX_CPUS
from perception_node.system.process import CAP_SYS_NICE, has_capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def set_policy(policy: int, priority: int, thread: int) -> Callable[[], None]:
    """Give a thread a real-time policy such as ``os.SCHED_FIFO``.

    Raises:
        OSError: the kernel refuses, or the thread has ended (``ProcessLookupError``).

    """
    before, parameters = os.sched_getscheduler(thread), os.sched_getparam(thread)
    # What a real-time thread starts must not be real-time as well: nobody would undo that, and
    # a pool that spins, or a build in a child process, would take a CPU from the whole robot.
    os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    return partial(_restore_policy, thread, before, parameters)


def _restore_policy(thread: int, policy: int, parameters: os.sched_param) -> None:
    # Without CAP_SYS_NICE the flag cannot be taken back. It means nothing to an ordinary thread.
    for flag in (0, os.SCHED_RESET_ON_FORK):
        with suppress(OSError):  # it has ended, or was more urgent than we may make it
            if is_ours(thread):
                os.sched_setscheduler(thread, policy | flag, parameters)
                return


def may_schedule(priority: int) -> bool:
    """Say whether the limits of this process allow a real-time priority."""
    limit, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    return limit == resource.RLIM_INFINITY or limit >= priority or has_capability(CAP_SYS_NICE)


def set_cpus(cpus: Sequence[int], thread: int) -> Callable[[], None]:
    """Let a thread run on these CPUs only.

    Raises:
        OSError: the kernel does not give all of them, or the thread has ended.

    """
    before = os.sched_getaffinity(thread)
    os.sched_setaffinity(thread, cpus)
    undo = partial(_restore_cpus, thread, before)
    given = os.sched_getaffinity(thread)
    if given != set(cpus):  # the kernel leaves out in silence what it cannot give
        undo()
        raise OSError(errno.EINVAL, f"the kernel gave only {format_cpus(given)}")
    return undo


def _restore_cpus(thread: int, cpus: set[int]) -> None:
    with suppress(OSError):  # it has ended, or these CPUs were taken from us
        if is_ours(thread):
            os.sched_setaffinity(thread, cpus)


def find_usable_cpus() -> set[int]:
    """Return the CPUs that a thread of this process can be given, whatever it uses now."""
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, range(MAX_CPUS))
        usable = os.sched_getaffinity(0)
        os.sched_setaffinity(0, before)
        return usable
    return before


def format_cpus(cpus: Iterable[int]) -> str:
    """Return CPUs as a list such as ``0,2-3``."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][-1] + 1:
            ranges[-1][1:] = [cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


def find_threads() -> frozenset[int]:
    """Return the native ids of all threads of this process; Python lists only its own."""
    return frozenset(map(int, os.listdir("/proc/self/task")))  # noqa: PTH208 - keeps no names


def is_ours(thread: int) -> bool:
    """Say whether a thread runs in this process: the ids of ended ones are given to others."""
    return Path(f"/proc/self/task/{thread}").exists()
