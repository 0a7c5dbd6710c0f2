# SPDX-License-Identifier: Apache-2.0
"""A process that confines itself and then tries what it must not be able to do.

``python -m tests.faults.confined FOLDER PARENT [old]`` prints one line of JSON: what each attempt
gave. ``old``: with Landlock as before Linux 6.12, on every Jetson: signals are not its matter.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

from perception_node.engines.importing.sandbox import landlock
from perception_node.engines.importing.sandbox.confinement import Limits, confine
from perception_node.engines.importing.sandbox.probes import F_OWNER_PID, F_SETOWN_EX, SIOCSPGRP
from perception_node.engines.importing.sandbox.seccomp import MACHINES
from perception_node.engines.importing.sandbox.system_calls import REFUSED

LIBC = ctypes.CDLL(None, use_errno=True)
IOPRIO_SET = REFUSED["ioprio_set"][MACHINES[platform.machine()][1]]


def call(name, *arguments):
    """Call a function of the C library; raise what it reports."""
    if getattr(LIBC, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def start_program():
    """Become another program."""
    os.execv("/bin/true", ["true"])  # noqa: S606 - refused


def own(command, value):
    """Make another process the owner of a pipe: who writes to it then sends it a signal."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(reading, command, value)
        fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK | fcntl.FASYNC)
        os.write(writing, b"x")
    finally:
        os.close(reading)
        os.close(writing)


def signals_as_owner(parent: int):
    """Return attempts to send a signal by way of an open file."""
    person = struct.pack("ii", F_OWNER_PID, parent)
    return {
        "owner of a file": lambda: own(fcntl.F_SETOWN, parent),
        "owner of a file, by kind": lambda: own(F_SETOWN_EX, person),
        "signal of a file": lambda: own(fcntl.F_SETSIG, signal.SIGTERM),
        "owner of a folder": lambda: fcntl.fcntl(
            os.open(".", os.O_RDONLY), fcntl.F_SETOWN, parent
        ),
        "news of a folder": lambda: fcntl.fcntl(os.open(".", os.O_RDONLY), fcntl.F_NOTIFY, 1),
        "owner by ioctl": lambda: fcntl.ioctl(0, SIOCSPGRP, struct.pack("i", parent)),
        "lease": lambda: fcntl.fcntl(os.open(sys.executable, os.O_RDONLY), fcntl.F_SETLEASE, 0),
        "lock": lambda: fcntl.flock(os.open(sys.executable, os.O_RDONLY), fcntl.LOCK_EX),
        "timer": lambda: call("timer_create", 0, None, ctypes.byref(ctypes.c_long())),
    }


def attempts(folder: Path, parent: int):
    """Return what is tried: a name and a function each; none of them may succeed."""
    victim = folder / "victim"
    return {
        "internet socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "datagram socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "pair of sockets": socket.socketpair,
        "new file": lambda: (folder / "new").write_bytes(b"x"),
        "new file here": lambda: Path("new").write_bytes(b"x"),
        "new file in memory": lambda: Path("/dev/shm/confined").write_bytes(b"x"),
        "change a file": lambda: victim.open("r+b"),
        "append": lambda: victim.open("ab"),
        "unnamed file": lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
        "reopen for writing": lambda: os.open("/proc/self/fd/0", os.O_RDWR),
        "truncate": lambda: os.truncate(victim, 0),
        "delete": victim.unlink,
        "rename": lambda: victim.rename(folder / "renamed"),
        "link": lambda: (folder / "linked").symlink_to(victim),
        "hard link": lambda: (folder / "linked").hardlink_to(victim),
        "folder": (folder / "made").mkdir,
        "mode": lambda: victim.chmod(0o777),
        "owner": lambda: os.chown(victim, 1, 1),
        "times": lambda: os.utime(victim, (1, 1)),
        "attribute": lambda: os.setxattr(victim, "user.x", b"x"),
        "memory file": lambda: os.memfd_create("x"),
        "fork": os.fork,
        "program": start_program,
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "signal to the parent": lambda: os.kill(parent, signal.SIGUSR1),
        "signal to init": lambda: os.kill(1, 0),
        "limits of the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "priority of the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
        "schedule of the parent": lambda: os.sched_setscheduler(
            parent, os.SCHED_BATCH, os.sched_param(0)
        ),
        "group of the parent's schedule": lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
        "everything of this user": lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19),
        "processors of the parent": lambda: os.sched_setaffinity(
            parent, os.sched_getaffinity(parent)
        ),
        "disk priority of the parent": lambda: call("syscall", IOPRIO_SET, 1, parent, 0x6007),
        "live on without the parent": lambda: call("prctl", 1, 0, 0, 0, 0),
        "share a core with the parent": lambda: call("prctl", 62, 2, parent, 0, 0),
        **signals_as_owner(parent),
        "trace the parent": lambda: call("ptrace", 16, parent, 0, 0),
        "namespace": lambda: call("unshare", 0x10000000),
        "root": lambda: os.chroot("/"),
        "mount": lambda: call("mount", b"none", str(folder).encode(), b"tmpfs", 0, None),
        "another user": lambda: os.setuid(1),
        "more time": lambda: resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6)),
        "read elsewhere": lambda: Path("/etc/passwd").read_bytes(),
        "read the victim": victim.read_bytes,
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list elsewhere": lambda: list(Path("/etc").iterdir()),
        "much memory": lambda: bytearray(1 << 30),
    }


def outcome(attempt) -> str:
    """Return the name of the error that an attempt gives, or ``done``."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except (MemoryError, ValueError) as error:
        return type(error).__name__
    return "done"


def main() -> None:
    """Confine, try, print."""
    tried = attempts(Path(sys.argv[1]), int(sys.argv[2]))
    if "old" in sys.argv[3:]:
        landlock.SCOPE_SINCE = sys.maxsize
    limits = Limits(memory_bytes=256 << 20, cpu_s=60)
    missing = confine(limits)
    found = {name: outcome(attempt) for name, attempt in tried.items()}
    threads: list[int] = []
    thread = threading.Thread(target=lambda: threads.append(1))
    thread.start()
    thread.join()
    found["in a thread"] = outcome(start_program)
    sys.stdout.write(json.dumps({"missing": missing, "found": found, "threads": len(threads)}))


if __name__ == "__main__":
    main()
