# SPDX-License-Identifier: Apache-2.0
"""Take from this process what a foreign model must not have, before it sees the model.

Three layers: limits on memory, time and file size (always there), a system call filter
(``seccomp.py``: no network, no writing, no new processes) and Landlock (``landlock.py``: reading
only what Python and its packages need). Each promise is tried out afterwards, not assumed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import perception_node
from perception_node.engines.importing.landlock import allow_only_reading
from perception_node.engines.importing.seccomp import refuse_system_calls

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
SIGKILL = 9
MAX_OPEN_FILES = 256
SYSTEM_PATHS = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system",
)
WITHHELD = "/etc/passwd"  # exists everywhere and is readable by all: what Landlock is tried on


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child process may use.

    Attributes:
        wall_s: seconds until it is killed.
        cpu_s: seconds of processor time, all threads together.
        memory_bytes: address space, on top of what the packages and copies of the model take.
        file_bytes: size of its answer.

    """

    wall_s: float = 300.0
    cpu_s: int = 300
    memory_bytes: int = 4 << 30
    file_bytes: int = 3 << 30


def confine(limits: Limits) -> list[str]:
    """Confine this process for good, after its imports; return what could not be enforced.

    Each item is a few words for an error message; an empty list means that everything holds.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(limits)
    threads = len(list(Path("/proc/self/task").iterdir()))
    allow_only_reading(readable_paths())
    refuse_system_calls()
    missing = [promise for promise, broken in PROMISES.items() if broken()]
    if threads > 1:  # Landlock holds for one thread and those that it starts
        missing.append(f"Landlock for {threads - 1} threads that an import has started")
    return missing


def _limit(limits: Limits) -> None:
    """Set the limits of this process; memory counts from here on."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + limits.memory_bytes
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    # At the first of the two the process gets SIGXCPU, which tells the parent why it ended.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 5))


def readable_paths() -> list[Path]:
    """Return what Python, its packages and the C library read, and the current folder."""
    package = Path(perception_node.__file__).resolve().parent.parent
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    entries = [sys.prefix, sys.base_prefix, *sys.path, *libraries, *SYSTEM_PATHS]
    paths = [Path(entry) for entry in entries if entry and entry != "/"]
    return [package, Path.cwd(), *paths]


def _succeeds(action: Callable[[], object]) -> bool:
    """Tell whether an action that must be refused is not."""
    try:
        action()
    except OSError as error:
        return error.errno not in {errno.EPERM, errno.EACCES}
    return True


def _opens_socket() -> bool:
    return _succeeds(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def _writes_file() -> bool:
    return _succeeds(lambda: os.open("tried", os.O_WRONLY | os.O_CREAT, 0o600))


def _starts_program() -> bool:
    return _succeeds(lambda: os.execv("/nonexistent", ["nonexistent"]))  # noqa: S606 - refused


def _reads_elsewhere() -> bool:
    return _succeeds(lambda: os.open(WITHHELD, os.O_RDONLY))


PROMISES = {
    "no network (seccomp)": _opens_socket,
    "no writing (seccomp)": _writes_file,
    "no other programs (seccomp)": _starts_program,
    "no reading of your files (Landlock, Linux 5.13)": _reads_elsewhere,
}
