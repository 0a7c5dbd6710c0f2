# SPDX-License-Identifier: Apache-2.0
"""Refuse system calls to this process for good: network, writing, new processes.

What is refused is listed, everything else is allowed, and what is newer than the list is
answered with "no such call". Files can only be opened for reading, and no call that changes
anything by a path is left: output goes to files that were open before.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

SECCOMP_SET_MODE_FILTER = 1  # linux/seccomp.h
SECCOMP_FILTER_FLAG_TSYNC = 1
RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD_WORD, AND, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06  # linux/filter.h
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
CLONE_THREAD = 0x00010000
NEWEST_KNOWN_CALL = 450  # the same number on all machines since 424
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC  # O_TMPFILE needs one of the first two

# Name: number on x86_64, on aarch64 (None: not there).
Numbers = tuple[int | None, int | None]
REFUSED: dict[str, Numbers] = {
    # network, and talking to other processes
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "setpgid": (109, 154),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # other programs and processes; threads are let through by `clone`
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    # changes by path, and memory that the limits do not count
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "open_by_handle_at": (304, 265),
    # other ways into the kernel, and what only an administrator may do
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "fanotify_init": (300, 262),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "personality": (135, 92),
    "setrlimit": (160, 164),
    "capset": (126, 91),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
}
# The C library and Python do without these where the kernel does not have them.
ABSENT: dict[str, Numbers] = {"clone3": (435, 435), "openat2": (437, 437)}
OPEN: Numbers = (2, None)
OPENAT: Numbers = (257, 56)
CLONE: Numbers = (56, 220)
TGKILL: Numbers = (234, 131)
PRLIMIT64: Numbers = (302, 261)
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
    steps += _when(OPEN[column], _allow_only_without(1, WRITING, refuse))
    steps += _when(OPENAT[column], _allow_only_without(2, WRITING, refuse))
    steps += _when(CLONE[column], _allow_only_with(0, CLONE_THREAD, refuse))
    steps += _when(TGKILL[column], _allow_only_values(0, (process,), refuse))
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


def _allow_only_without(index: int, mask: int, refuse: int) -> list[Instruction]:
    return [
        _argument(index),
        Instruction(AND, mask),
        Instruction(JUMP_EQUAL, 0, if_true=1),
        Instruction(RETURN, refuse),
        Instruction(RETURN, RET_ALLOW),
    ]


def _allow_only_with(index: int, flag: int, refuse: int) -> list[Instruction]:
    return [
        _argument(index),
        Instruction(AND, flag),
        Instruction(JUMP_EQUAL, flag, if_true=1),
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
