# SPDX-License-Identifier: Apache-2.0
"""Refuse system calls to this process for good: network, writing, new processes, other processes.

What is refused is listed in ``system_calls.py``, everything else is allowed, and what is newer
than the list is answered with "no such call". Calls with many commands (``fcntl``, ``ioctl``,
``prctl``) may do what is listed and nothing else. Files can only be opened for reading, and no
call that changes anything by a path is left: output goes to files that were open before.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from perception_node.engines.importing.sandbox.system_calls import (
    ABSENT,
    CLONE,
    FCNTL,
    FCNTL_COMMANDS,
    IOCTL,
    IOCTL_COMMANDS,
    OPEN,
    OPENAT,
    PRCTL,
    PRCTL_OPTIONS,
    PRLIMIT64,
    REFUSED,
    TGKILL,
)

SECCOMP_SET_MODE_FILTER = 1  # linux/seccomp.h
SECCOMP_FILTER_FLAG_TSYNC = 1
RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD_WORD, AND, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06  # linux/filter.h
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
CLONE_THREAD = 0x00010000
NEWEST_KNOWN_CALL = 450  # the same number on all machines since 424
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC  # O_TMPFILE needs one of the first two

MACHINES = {"x86_64": (0xC000003E, 0, 317), "aarch64": (0xC00000B7, 1, 277)}


class Instruction(NamedTuple):
    """One step of a classic BPF program: ``struct sock_filter``."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_system_calls() -> bool:
    """Install the filter for all threads of this process; there is no way back.

    ``PR_SET_NO_NEW_PRIVS`` must have been set. Returns False where the kernel or the machine
    cannot do it.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    code = b"".join(
        struct.pack("=HBBI", step.code, step.if_true, step.if_false, step.value)
        for step in filter_program(platform.machine(), os.getpid())
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    done = ctypes.CDLL(None, use_errno=True).syscall(
        ctypes.c_long(machine[2]),
        ctypes.c_long(SECCOMP_SET_MODE_FILTER),
        ctypes.c_long(SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(program),
    )
    return bool(done == 0)


def filter_program(machine: str, process: int) -> list[Instruction]:
    """Return the filter for a machine (``x86_64`` or ``aarch64``) and the process it is for."""
    audit, column, _ = MACHINES[machine]
    refuse, absent = RET_ERRNO | errno.EPERM, RET_ERRNO | errno.ENOSYS
    steps = [
        Instruction(LOAD_WORD, ARCHITECTURE),
        Instruction(JUMP_EQUAL, audit, if_true=1),
        Instruction(RETURN, RET_KILL_PROCESS),
        Instruction(LOAD_WORD, NUMBER),
        Instruction(JUMP_GREATER, NEWEST_KNOWN_CALL, if_false=1),  # those of x32 too
        Instruction(RETURN, absent),
    ]
    for calls, verdict in ((REFUSED, refuse), (ABSENT, absent)):
        for numbers in calls.values():
            steps += _when(numbers[column], [Instruction(RETURN, verdict)])
    steps += _when(OPEN[column], _allow_only_bits(1, WRITING, 0, refuse))
    steps += _when(OPENAT[column], _allow_only_bits(2, WRITING, 0, refuse))
    steps += _when(CLONE[column], _allow_only_bits(0, CLONE_THREAD, CLONE_THREAD, refuse))
    steps += _when(TGKILL[column], _allow_only_values(0, (process,), refuse))
    for numbers, place, commands in (
        (FCNTL, 1, FCNTL_COMMANDS),
        (IOCTL, 1, IOCTL_COMMANDS),
        (PRCTL, 0, PRCTL_OPTIONS),
    ):
        allowed = _allow_only_values(place, tuple(commands.values()), refuse)
        steps += _when(numbers[column], allowed)
    own_limits = _allow_only_values(0, (0, process), refuse)
    steps += _when(PRLIMIT64[column], [*_refuse_unless_null(2, refuse), *own_limits])
    return [*steps, Instruction(RETURN, RET_ALLOW)]


def _when(number: int | None, body: list[Instruction]) -> list[Instruction]:
    """Run the body, which ends in a return, for one system call; the number is loaded."""
    if number is None:
        return []
    return [Instruction(JUMP_EQUAL, number, if_false=len(body)), *body]


def _argument(index: int) -> Instruction:
    """Load the lower half of an argument: both machines are little-endian, flags fit in it."""
    return Instruction(LOAD_WORD, ARGUMENTS + 8 * index)


def _allow_only_bits(index: int, mask: int, bits: int, refuse: int) -> list[Instruction]:
    return [
        _argument(index),
        Instruction(AND, mask),
        Instruction(JUMP_EQUAL, bits, if_true=1),
        Instruction(RETURN, refuse),
        Instruction(RETURN, RET_ALLOW),
    ]


def _refuse_unless_null(index: int, refuse: int) -> list[Instruction]:
    """Refuse a pointer to something; go on without."""
    halves = (ARGUMENTS + 8 * index, ARGUMENTS + 8 * index + 4)
    return [
        step
        for half in halves
        for step in (
            Instruction(LOAD_WORD, half),
            Instruction(JUMP_EQUAL, 0, if_true=1),
            Instruction(RETURN, refuse),
        )
    ]


def _allow_only_values(index: int, values: tuple[int, ...], refuse: int) -> list[Instruction]:
    checks = [
        Instruction(JUMP_EQUAL, value, if_true=len(values) - place)
        for place, value in enumerate(values)
    ]
    return [
        _argument(index),
        *checks,
        Instruction(RETURN, refuse),
        Instruction(RETURN, RET_ALLOW),
    ]
