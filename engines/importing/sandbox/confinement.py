# SPDX-License-Identifier: Apache-2.0
"""Take from this process what a foreign model must not have, before it sees the model.

Three layers: limits on memory, time and file size (always there), a system call filter
(``seccomp.py``: no network, no writing, no new processes, nothing to other processes) and Landlock
(``landlock.py``: reading only what Python and its packages need). Each promise is tried out
afterwards (``probes.py``), not assumed.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.engines.importing.sandbox.landlock import allow_only_reading
from perception_node.engines.importing.sandbox.packages import lies_in, readable_paths
from perception_node.engines.importing.sandbox.probes import (
    changes_schedules,
    enters_kernel,
    looks_into,
    opens_socket,
    signals_others,
    starts_program,
    succeeds,
    writes_file,
)
from perception_node.engines.importing.sandbox.seccomp import refuse_system_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
SIGKILL = 9
MAX_OPEN_FILES = 256
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


def confine(limits: Limits, private: Sequence[str] = ()) -> list[str]:
    """Confine this process for good, after its imports; return what could not be enforced.

    Each item is a few words for an error message; an empty list means that everything holds.
    ``private`` are folders of the user that are not to be read, absolute: home, current folder.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(limits)
    threads = len(list(Path("/proc/self/task").iterdir()))
    readable = readable_paths([Path(folder) for folder in private])
    withheld = [path for path in (WITHHELD, "/", *private) if not _is_readable(path, readable)]
    allow_only_reading(readable)
    refuse_system_calls()
    missing = [promise for promise, broken in PROMISES.items() if broken()]
    if any(succeeds(partial(os.open, path, os.O_RDONLY)) for path in withheld):
        missing.append("no reading of your files (Landlock, Linux 5.13)")
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


def _is_readable(path: str, readable: Sequence[Path]) -> bool:
    """Tell whether something the user has lies in a folder of packages, or is not there at all."""
    real = Path(os.path.realpath(path))
    return lies_in(real, readable) or not real.exists()


PROMISES = {
    "no network (seccomp)": opens_socket,
    "no writing (seccomp)": writes_file,
    "no other programs (seccomp)": starts_program,
    "no signals to other processes (seccomp)": signals_others,
    "no changes of other processes' priorities (seccomp)": changes_schedules,
    "no looking into other processes (seccomp)": looks_into,
    "no other ways into the kernel (seccomp)": enters_kernel,
}
