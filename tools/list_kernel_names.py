#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write down what Linux calls by which number on both machines: tests/data/kernel_names.json.

The sandbox of `perception import` has these numbers in tables of its own. They are read from the
kernel's headers, which Debian 13's package linux-libc-dev has for all machines:

    tools/list_kernel_names.py [/usr/include]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "tests" / "data" / "kernel_names.json"
MACHINES = ("x86_64", "aarch64")
HEADERS = ("linux/fcntl", "linux/audit", "linux/filter", "linux/landlock", "linux/sched")
HEADERS += ("linux/prctl", "linux/seccomp", "linux/version", "linux/ptrace", "linux/fs")
HEADERS += ("asm/ioctls", "asm/termbits", "asm/sockios")
CONSTANTS = """
AUDIT_ARCH_X86_64 AUDIT_ARCH_AARCH64 AUDIT_ARCH_I386 AUDIT_ARCH_ARM
BPF_LD BPF_W BPF_ABS BPF_ALU BPF_AND BPF_JMP BPF_JEQ BPF_JGT BPF_K BPF_RET BPF_MAXINSNS
CLONE_THREAD LINUX_VERSION_CODE
F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC F_GETPIPE_SZ
F_SETLK F_SETLKW F_SETOWN F_SETSIG F_SETOWN_EX F_OWNER_PID F_SETLEASE F_NOTIFY F_SETPIPE_SZ
F_OFD_SETLK
TCGETS TCGETS2 TIOCGWINSZ FIONREAD FIOCLEX FIONCLEX
TIOCSTI FIOASYNC FIOSETOWN SIOCSPGRP FS_IOC_SETFLAGS
PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_NAME PR_GET_NAME PR_GET_SECCOMP PR_CAPBSET_READ
PR_GET_NO_NEW_PRIVS PR_GET_THP_DISABLE PR_SVE_GET_VL PR_SET_VMA
PR_SET_MM PR_SET_PTRACER PR_SCHED_CORE PR_SET_DUMPABLE PTRACE_PEEKDATA
LANDLOCK_ACCESS_FS_READ_FILE LANDLOCK_ACCESS_FS_READ_DIR LANDLOCK_ACCESS_FS_MAKE_SYM
LANDLOCK_ACCESS_FS_REFER LANDLOCK_ACCESS_FS_TRUNCATE LANDLOCK_ACCESS_FS_IOCTL_DEV
LANDLOCK_ACCESS_NET_BIND_TCP LANDLOCK_ACCESS_NET_CONNECT_TCP
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET LANDLOCK_SCOPE_SIGNAL
LANDLOCK_CREATE_RULESET_VERSION LANDLOCK_RULE_PATH_BENEATH
O_WRONLY O_RDWR O_CREAT O_TRUNC O_TMPFILE O_DIRECTORY O_CLOEXEC
PR_SET_NO_NEW_PRIVS PR_SET_PDEATHSIG
SECCOMP_SET_MODE_FILTER SECCOMP_FILTER_FLAG_TSYNC
SECCOMP_RET_KILL_PROCESS SECCOMP_RET_ERRNO SECCOMP_RET_ALLOW
""".split()
FIELDS = {  # offsets in structures
    "seccomp_data": ("nr", "arch", "args"),
    "landlock_ruleset_attr": ("handled_access_fs", "handled_access_net", "scoped"),
    "landlock_path_beneath_attr": ("allowed_access", "parent_fd"),
}


def main() -> None:
    """Read the headers of both machines."""
    include = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/include")
    constants = {machine: constants_of(include, machine) for machine in MACHINES}
    version = constants["x86_64"]["LINUX_VERSION_CODE"]
    table = {
        "headers": f"Linux {version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}",
        "calls": {machine: calls_of(include, machine) for machine in MACHINES},
        "constants": constants,
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


def calls_of(include: Path, machine: str) -> dict[str, int]:
    """Return the system calls of a machine."""
    header = (include / f"{machine}-linux-gnu/asm/unistd_64.h").read_text()
    return {name: int(number) for name, number in re.findall(r"define __NR_(\w+) (\d+)", header)}


def constants_of(include: Path, machine: str) -> dict[str, int]:
    """Let the compiler work out the constants: it prints each as the value of a variable."""
    values = {name: name for name in CONSTANTS}
    for structure, fields in FIELDS.items():
        values |= {
            f"{structure}.{field}": f"__builtin_offsetof(struct {structure}, {field})"
            for field in fields
        }
        values[f"sizeof {structure}"] = f"sizeof(struct {structure})"
    lines = [f"#include <{header}.h>" for header in HEADERS]
    lines += [f"unsigned long v{n} = {value};" for n, value in enumerate(values.values())]
    folders = (include / f"{machine}-linux-gnu", include)
    command = ["gcc", "-S", "-fno-zero-initialized-in-bss", "-x", "c", "-nostdinc", "-o", "-", "-"]
    command += [f"-I{folder}" for folder in folders]
    program = "\n".join(lines) + "\n"
    assembly = subprocess.run(command, input=program, text=True, check=True, capture_output=True)
    numbers = re.findall(r"v\d+:\s+\.(?:quad\s+(\d+)|zero)", assembly.stdout)
    return dict(zip(values, (int(number or 0) for number in numbers), strict=True))


if __name__ == "__main__":
    main()
