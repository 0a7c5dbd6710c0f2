# SPDX-License-Identifier: Apache-2.0
"""The filter's verdict on the system calls of both machines, against the kernel's own names."""

from __future__ import annotations

import errno

import pytest

from perception_node.engines.importing.sandbox import confinement, probes, seccomp
from perception_node.engines.importing.sandbox.seccomp import (
    MACHINES,
    NEWEST_KNOWN_CALL,
    filter_program,
)
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
from tests.builders import ROOT
from tests.kernel_names import AUDIT, CALLS, CONSTANTS, run_filter

PROCESS = 4321
ALLOW = CONSTANTS["x86_64"]["SECCOMP_RET_ALLOW"]
KILL = CONSTANTS["x86_64"]["SECCOMP_RET_KILL_PROCESS"]
REFUSE = CONSTANTS["x86_64"]["SECCOMP_RET_ERRNO"] | errno.EPERM
NO_SUCH_CALL = CONSTANTS["x86_64"]["SECCOMP_RET_ERRNO"] | errno.ENOSYS
SPECIAL = {"open": OPEN, "openat": OPENAT, "clone": CLONE, "tgkill": TGKILL}
SPECIAL |= {"prlimit64": PRLIMIT64, "fcntl": FCNTL, "ioctl": IOCTL, "prctl": PRCTL}
LISTED = {**REFUSED, **ABSENT, **SPECIAL}
# Calls with many commands: which argument says the command, and which are allowed.
COMMANDS = {
    "fcntl": (1, FCNTL_COMMANDS),
    "ioctl": (1, IOCTL_COMMANDS),
    "prctl": (0, PRCTL_OPTIONS),
}
# What must not be among them, with the reason.
FORBIDDEN = {
    "fcntl": (
        *("F_SETOWN", "F_SETOWN_EX", "F_SETSIG", "F_NOTIFY", "F_SETLEASE"),  # signals
        *("F_SETLK", "F_SETLKW", "F_OFD_SETLK", "F_SETPIPE_SZ"),  # what others wait for
    ),
    "ioctl": ("FIOSETOWN", "SIOCSPGRP", "FIOASYNC", "TIOCSTI", "FS_IOC_SETFLAGS"),
    "prctl": (
        *("PR_SET_PDEATHSIG", "PR_SCHED_CORE"),  # outliving the parent, sharing its core
        *("PR_SET_PTRACER", "PR_SET_MM", "PR_SET_DUMPABLE"),
    ),
}
NEEDED = {"read", "write", "close", "mmap", "munmap", "mprotect", "futex", "exit_group", "lseek"}


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


def column(machine):
    return list(MACHINES).index(machine)


def verdict(machine, call, *arguments, audit=None):
    """Run the filter of a machine on a call, named or numbered."""
    number = CALLS[machine][call] if isinstance(call, str) else call
    steps = filter_program(machine, PROCESS)
    return run_filter(steps, number, arguments, AUDIT[machine] if audit is None else audit)


def verdicts(machine, calls):
    """Return what the filter says of each call, with nothing but zeros as arguments."""
    return {call: verdict(machine, call) for call in calls}


def test_the_numbers_are_the_kernels(machine):
    listed = {name: numbers[column(machine)] for name, numbers in LISTED.items()}
    assert len(listed) > 100
    assert listed == {name: CALLS[machine].get(name) for name in listed}


def test_the_constants_are_the_kernels(machine):
    names = CONSTANTS[machine]
    audit, _, call = MACHINES[machine]
    assert audit == AUDIT[machine]
    assert call == CALLS[machine]["seccomp"]
    assert names["SECCOMP_SET_MODE_FILTER"] == seccomp.SECCOMP_SET_MODE_FILTER
    assert names["SECCOMP_FILTER_FLAG_TSYNC"] == seccomp.SECCOMP_FILTER_FLAG_TSYNC
    assert names["CLONE_THREAD"] == seccomp.CLONE_THREAD
    writing = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
    assert sum(names[name] for name in writing) == seccomp.WRITING
    for _, commands in COMMANDS.values():
        assert commands == {name: names[name] for name in commands}
    for name in ("F_SETOWN_EX", "F_OWNER_PID", "SIOCSPGRP", "FS_IOC_SETFLAGS", "PTRACE_PEEKDATA"):
        assert names[name] == getattr(probes, name)
    assert names["PR_SET_PDEATHSIG"] == probes.PR_SET_PDEATHSIG
    assert names["PR_SET_NO_NEW_PRIVS"] == confinement.PR_SET_NO_NEW_PRIVS
    assert names["PR_SET_PDEATHSIG"] == confinement.PR_SET_PDEATHSIG


def test_the_kernel_accepts_the_program(machine):
    steps = filter_program(machine, PROCESS)
    assert len(steps) <= CONSTANTS[machine]["BPF_MAXINSNS"]
    assert steps[-1].code == CONSTANTS[machine]["BPF_RET"]
    for place, step in enumerate(steps):
        assert max(step.if_true, step.if_false) < min(256, len(steps) - place), place


def test_what_is_listed_is_refused(machine):
    calls = [name for name in REFUSED if name in CALLS[machine]]
    assert len(calls) > 90
    assert verdicts(machine, calls) == dict.fromkeys(calls, REFUSE)


def test_what_is_allowed_was_looked_through(machine):
    """A call that is missing in the tables is allowed, so this list is read, call by call."""
    listed = set((ROOT / "tests/data/allowed_calls.txt").read_text().split())
    assert listed >= NEEDED
    found = verdicts(machine, CALLS[machine])
    allowed = {call for call, answer in found.items() if answer == ALLOW} | {*COMMANDS}
    assert allowed == listed & CALLS[machine].keys()


def test_both_machines_have_the_same_rules():
    common = CALLS["x86_64"].keys() & CALLS["aarch64"].keys()
    assert len(common) > 300
    assert verdicts("x86_64", common) == verdicts("aarch64", common)
    assert CALLS["aarch64"].keys() == common  # nothing that only aarch64 has


def test_newer_calls_do_not_exist(machine):
    newer = {name for name, number in CALLS[machine].items() if number > NEWEST_KNOWN_CALL}
    assert {"fchmodat2", "mseal"} <= newer
    calls = {*newer, *ABSENT, NEWEST_KNOWN_CALL + 1, 2**31, 2**32 - 1}
    assert verdicts(machine, calls) == dict.fromkeys(calls, NO_SUCH_CALL)


def test_the_calls_of_x32_do_not_exist():
    calls = [0x40000000 | number for number in (*CALLS["x86_64"].values(), *range(512, 548))]
    assert verdicts("x86_64", calls) == dict.fromkeys(calls, NO_SUCH_CALL)


@pytest.mark.parametrize("other", ["X86_64", "AARCH64", "I386", "ARM"])
def test_another_architecture_is_killed(machine, other):
    if other.lower() == machine:
        assert verdict(machine, "read") == ALLOW
        return
    audit = CONSTANTS[machine][f"AUDIT_ARCH_{other}"]
    assert {verdict(machine, number, audit=audit) for number in range(500)} == {KILL}


@pytest.mark.parametrize("flag", ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"])
def test_files_are_not_opened_for_writing(machine, flag):
    names = CONSTANTS[machine]
    flags = names[flag] | names["O_CLOEXEC"]
    if flag == "O_TMPFILE":
        flags |= names["O_RDWR"]  # the kernel refuses it otherwise
    assert verdict(machine, "openat", 5, 0x7FFF, flags) == REFUSE
    if "open" in CALLS[machine]:
        assert verdict(machine, "open", 0x7FFF, flags) == REFUSE


def test_files_are_opened_for_reading(machine):
    flags = CONSTANTS[machine]["O_CLOEXEC"] | CONSTANTS[machine]["O_DIRECTORY"]
    assert verdict(machine, "openat", 5, 0x7FFF, flags) == ALLOW


def test_threads_are_allowed_and_processes_are_not(machine):
    assert verdict(machine, "clone", 0x3D0F00) == ALLOW  # what pthread_create passes
    assert verdict(machine, "clone", 0x01200011) == REFUSE  # what fork passes
    assert verdict(machine, "clone", 0x1_01200011) == REFUSE


def test_signals_reach_only_the_process_itself(machine):
    assert verdict(machine, "tgkill", PROCESS) == ALLOW
    assert verdict(machine, "tgkill", PROCESS + 1) == REFUSE


@pytest.mark.parametrize("call", COMMANDS)
def test_calls_of_many_commands_may_do_what_is_listed_and_nothing_else(machine, call):
    place, allowed = COMMANDS[call]
    forbidden = [CONSTANTS[machine][name] for name in FORBIDDEN[call]]
    others = {*forbidden, *range(0x400), 2**31, 2**32 - 1} - {*allowed.values()}
    found = {
        command: verdict(machine, call, *[0] * place, command)
        for command in (*allowed.values(), *others)
    }
    expected = dict.fromkeys(others, REFUSE) | dict.fromkeys(allowed.values(), ALLOW)
    assert found == expected


def test_calls_that_change_other_processes_are_refused(machine):
    calls = """
        setpriority ioprio_set sched_setaffinity sched_setattr sched_setparam sched_setscheduler
        setpgid setsid kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd
        pidfd_send_signal process_vm_readv process_vm_writev process_madvise process_mrelease
        ptrace kcmp migrate_pages move_pages perf_event_open timer_create mq_notify msgrcv
        io_uring_setup io_uring_enter io_uring_register get_robust_list flock
    """.split()
    assert verdicts(machine, calls) == dict.fromkeys(calls, REFUSE)


@pytest.mark.parametrize("new_limit", [0, 8, 0x7F << 32])
def test_limits_of_the_process_itself_are_read_and_never_set(machine, new_limit):
    expected = REFUSE if new_limit else ALLOW
    verdicts = {verdict(machine, "prlimit64", process, 7, new_limit) for process in (0, PROCESS)}
    assert verdicts == {expected}
    assert verdict(machine, "prlimit64", 1, 7, new_limit) == REFUSE
    assert verdict(machine, "setrlimit", 7, new_limit) == REFUSE
