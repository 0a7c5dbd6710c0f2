# SPDX-License-Identifier: Apache-2.0
"""The filter's verdict on system calls of both machines, worked out as the kernel does."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from perception_node.engines.importing.seccomp import (
    ABSENT,
    CLONE,
    MACHINES,
    NEWEST_KNOWN_CALL,
    OPEN,
    OPENAT,
    PRLIMIT64,
    REFUSED,
    RET_ALLOW,
    RET_ERRNO,
    RET_KILL_PROCESS,
    TGKILL,
    filter_program,
)

PROCESS = 4321
REFUSE, NO_SUCH_CALL = RET_ERRNO | errno.EPERM, RET_ERRNO | errno.ENOSYS
HARMLESS = {"x86_64": {"read": 0, "mmap": 9, "futex": 202}, "aarch64": {"read": 63, "mmap": 222}}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),  # the numbers of all newer machines
}
SPECIAL = {"open": OPEN, "openat": OPENAT, "clone": CLONE, "tgkill": TGKILL}
CALLS = {**REFUSED, **ABSENT, **SPECIAL, "prlimit64": PRLIMIT64}


def verdict(machine, number, *arguments, audit=None):
    """Run the filter of a machine on one call."""
    data = {0: number, 4: MACHINES[machine][0] if audit is None else audit}
    data |= {16 + 8 * n: a & 0xFFFFFFFF for n, a in enumerate((*arguments, 0, 0, 0))}
    steps, place, value = filter_program(machine, PROCESS), 0, 0
    while True:
        step = steps[place]
        place += 1
        if step.code == 0x06:
            return step.value
        if step.code == 0x20:
            value = data[step.value]
        elif step.code == 0x54:
            value &= step.value
        else:
            jumps = {0x15: value == step.value, 0x25: value > step.value}[step.code]
            place += step.if_true if jumps else step.if_false


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


def column(machine):
    return list(MACHINES).index(machine)


def test_what_is_listed_is_refused(machine):
    numbers = [numbers[column(machine)] for numbers in REFUSED.values()]
    verdicts = {number: verdict(machine, number) for number in numbers if number is not None}
    assert len(verdicts) > 90
    assert set(verdicts.values()) == {REFUSE}


def test_ordinary_calls_are_allowed(machine):
    assert {verdict(machine, n) for n in HARMLESS[machine].values()} == {RET_ALLOW}


def test_newer_calls_do_not_exist(machine):
    newer = [ABSENT[name][column(machine)] for name in ABSENT] + [NEWEST_KNOWN_CALL + 1, 2**31]
    assert {verdict(machine, number) for number in newer} == {NO_SUCH_CALL}


def test_another_architecture_is_killed(machine):
    assert verdict(machine, 0, audit=0x40000003) == RET_KILL_PROCESS  # i386


@pytest.mark.parametrize(
    "flags",
    [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC | os.O_CLOEXEC, os.O_TMPFILE | os.O_RDWR],
)
def test_files_are_not_opened_for_writing(machine, flags):
    assert verdict(machine, OPENAT[column(machine)], 5, 0x7FFF, flags) == REFUSE
    if (number := OPEN[column(machine)]) is not None:
        assert verdict(machine, number, 0x7FFF, flags) == REFUSE


def test_files_are_opened_for_reading(machine):
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
    assert verdict(machine, OPENAT[column(machine)], 5, 0x7FFF, flags) == RET_ALLOW


def test_threads_are_allowed_and_processes_are_not(machine):
    number = CLONE[column(machine)]
    assert verdict(machine, number, 0x3D0F00) == RET_ALLOW  # what pthread_create passes
    assert verdict(machine, number, 0x01200011) == REFUSE  # what fork passes


def test_signals_and_limits_reach_only_the_process_itself(machine):
    tgkill, prlimit = TGKILL[column(machine)], PRLIMIT64[column(machine)]
    assert verdict(machine, tgkill, PROCESS) == RET_ALLOW
    assert verdict(machine, tgkill, PROCESS + 1) == REFUSE
    assert {verdict(machine, prlimit, process) for process in (0, PROCESS)} == {RET_ALLOW}
    assert verdict(machine, prlimit, 1) == REFUSE


def test_the_numbers_are_the_kernels(machine):
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    listed = {name: numbers[column(machine)] for name, numbers in CALLS.items()}
    known = {name for name, number in listed.items() if number is not None and name in defined}
    assert len(known) > 90
    assert {n: int(defined[n]) for n in known} == {n: listed[n] for n in known}
