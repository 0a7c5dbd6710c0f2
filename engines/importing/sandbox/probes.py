# SPDX-License-Identifier: Apache-2.0
"""Try out, inside a confined process, what it must not be able to do to others.

Each function returns True where one of the calls is not refused. A call that goes through does no
harm: signal 0, the priority that the parent has already, an address that is none.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

from perception_node.engines.importing.sandbox.seccomp import MACHINES
from perception_node.engines.importing.sandbox.system_calls import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
F_SETOWN_EX, F_OWNER_PID = 15, 1  # linux/fcntl.h; not in Python before 3.12
SIOCSPGRP, FS_IOC_SETFLAGS = 0x8902, 0x40086602
PTRACE_PEEKDATA, PR_SET_PDEATHSIG = 2, 1
NOWHERE = -1


def succeeds(action: Callable[[], object]) -> bool:
    """Tell whether an action that must be refused is not; another error is no refusal."""
    try:
        action()
    except OSError as error:
        return error.errno not in {errno.EPERM, errno.EACCES}
    return True


def opens_socket() -> bool:
    """Try to open a socket."""
    return succeeds(partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))


def writes_file() -> bool:
    """Try to make a file."""
    return succeeds(partial(os.open, "tried", os.O_WRONLY | os.O_CREAT, 0o600))


def starts_program() -> bool:
    """Try to become another program."""
    return succeeds(partial(os.execv, "/nonexistent", ["nonexistent"]))


def signals_others() -> bool:
    """Try what ends in a signal to the parent: directly, and as the owner of an open file."""
    parent = os.getppid()
    owner = struct.pack("ii", F_OWNER_PID, parent)
    reading, writing = os.pipe()
    try:
        return _any_succeeds(
            partial(os.kill, parent, 0),
            partial(_call, "tkill", parent, 0),
            partial(_call, "pidfd_open", parent, 0),
            partial(fcntl.fcntl, reading, fcntl.F_SETOWN, parent),
            partial(fcntl.fcntl, reading, F_SETOWN_EX, owner),
            partial(fcntl.fcntl, reading, fcntl.F_SETSIG, 0),
            partial(fcntl.ioctl, reading, SIOCSPGRP, struct.pack("i", parent)),
            partial(_call, "timer_create", NOWHERE, 0, 0),
            partial(_call, "mq_notify", NOWHERE, 0),
        )
    finally:
        os.close(reading)
        os.close(writing)


def changes_schedules() -> bool:
    """Try to give the parent the priority, the CPUs and the limits that it has."""
    parent = os.getppid()
    nice = os.getpriority(os.PRIO_PROCESS, parent)
    cpus = os.sched_getaffinity(parent)
    return _any_succeeds(
        partial(os.setpriority, os.PRIO_PROCESS, parent, nice),
        partial(os.sched_setaffinity, parent, cpus),
        partial(_call, "sched_setscheduler", parent, NOWHERE, 0),
        partial(_call, "sched_setparam", parent, 0),
        partial(_call, "sched_setattr", parent, 0, 0),
        partial(_call, "ioprio_set", 1, parent, NOWHERE),
        partial(_call, "setpgid", parent, 0),
        partial(resource.prlimit, parent, resource.RLIMIT_CORE),
        partial(_prctl, PR_SET_PDEATHSIG, 0),
    )


def looks_into() -> bool:
    """Try to read from the parent's memory."""
    parent = os.getppid()
    return _any_succeeds(
        partial(_call, "process_vm_readv", parent, 0, 0, 0, 0, 0),
        partial(_call, "process_vm_writev", parent, 0, 0, 0, 0, 0),
        partial(_call, "ptrace", PTRACE_PEEKDATA, parent, 0, 0),
        partial(_call, "kcmp", parent, parent, NOWHERE, 0, 0),
        partial(_call, "migrate_pages", parent, 0, 0, 0),
        partial(_call, "move_pages", parent, 0, 0, 0, 0, 0),
        partial(_call, "msgrcv", NOWHERE, 0, 0, 0, 0),
    )


def enters_kernel() -> bool:
    """Try interfaces that do by other means what is refused."""
    return _any_succeeds(
        partial(_call, "io_uring_setup", 0, 0),
        partial(_call, "perf_event_open", 0, NOWHERE, NOWHERE, NOWHERE, 0),
        partial(_call, "bpf", NOWHERE, 0, 0),
        partial(_call, "userfaultfd", NOWHERE),
        partial(_call, "keyctl", NOWHERE, 0, 0, 0, 0),
        partial(_call, "flock", NOWHERE, NOWHERE),
        partial(fcntl.ioctl, 0, FS_IOC_SETFLAGS, struct.pack("l", 0)),
    )


def _any_succeeds(*actions: Callable[[], object]) -> bool:
    return any(succeeds(action) for action in actions)


def _call(name: str, *arguments: int) -> None:
    """Make one of the system calls that are refused, on every machine that has a table."""
    machine = MACHINES.get(platform.machine())
    number = None if machine is None else REFUSED[name][machine[1]]
    if number is not None:
        _check(LIBC.syscall(*map(ctypes.c_long, (number, *arguments))))


def _prctl(option: int, argument: int) -> None:
    _check(LIBC.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
