# SPDX-License-Identifier: Apache-2.0
"""A process as its kernel sees it: memory, descriptors, threads."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20


class ProcessSample(NamedTuple):
    """One look at a process.

    Attributes:
        time_s: steady time.
        own_mib: memory that is its alone (RssAnon), in MiB.
        shared_mib: memory that it shares with other processes (RssShmem), in MiB; with Fast DDS
            these are the segments through which images come, which fill up to their fixed size.
        descriptors: open files and sockets.
        threads: threads.

    """

    time_s: float
    own_mib: float
    shared_mib: float
    descriptors: int
    threads: int


class Usage(NamedTuple):
    """What a process has used since its start.

    Attributes:
        time_ns: steady time of this look.
        cpu_s: processor time.
        page_faults: minor and major.
        voluntary_switches: of the threads that live: how often one of them waited.
        involuntary_switches: how often one of them had to make room for others.
        threads_s: processor time of each thread that lives, by its number.

    """

    time_ns: int
    cpu_s: float
    page_faults: int
    voluntary_switches: int
    involuntary_switches: int
    threads_s: Mapping[int, float]

    def beside_busiest_s(self, later: Usage) -> float:
        """Return the processor time in between of all threads but the one that used most."""
        used_s = [t_s - self.threads_s.get(n, 0.0) for n, t_s in later.threads_s.items()]
        return max(0.0, later.cpu_s - self.cpu_s - max(used_s, default=0.0))


class StolenTime(NamedTuple):
    """Processor time of this machine so far, in ticks."""

    stolen: int
    total: int

    def share_until(self, later: StolenTime) -> float:
        """Return which part of the time in between the host has taken."""
        return (later.stolen - self.stolen) / max(1, later.total - self.total)


def look_at(process: int) -> ProcessSample | None:
    """Look at a process of the same user; None once it has ended."""
    try:
        return read_sample(process)
    except (OSError, KeyError):  # gone, or a zombie, which has no memory
        return None


def read_sample(process: int) -> ProcessSample:
    """Look at a process of the same user.

    Raises:
        OSError: there is none of this number.
        KeyError: it has ended and was not waited for yet.

    """
    folder = Path("/proc") / str(process)
    lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    own_kib, shared_kib = (int(status[key].split()[0]) for key in ("RssAnon", "RssShmem"))
    return ProcessSample(
        time.monotonic(),
        own_kib * 1024 / MIB,
        shared_kib * 1024 / MIB,
        sum(1 for _ in (folder / "fd").iterdir()),
        int(status["Threads"]),
    )


def read_memory_mib(process: int, key: str) -> float:
    """Return a line of a process's memory in MiB, such as VmRSS (now) or VmHWM (its peak).

    Raises:
        OSError: there is none of this number.
        KeyError: it has ended and was not waited for yet.

    """
    text = (Path("/proc") / str(process) / "status").read_text(encoding="utf-8", errors="replace")
    status = dict(line.split(":", 1) for line in text.splitlines())
    return int(status[key].split()[0]) * 1024 / MIB


def forget_peak(process: int) -> None:
    """Let VmHWM of a process of the same user begin again at what it has now.

    Raises:
        OSError: there is none of this number, or the kernel refuses.

    """
    (Path("/proc") / str(process) / "clear_refs").write_text("5", encoding="ascii")  # proc(5)


def read_usage(process: int) -> Usage:
    """Look at what a process of the same user has used.

    Raises:
        OSError: there is none of this number.

    """
    folder = Path("/proc") / str(process)
    fields = _read_stat(folder)
    tasks = list((folder / "task").iterdir())
    switches = [_read_switches(task) for task in tasks]
    threads_s = {}
    for task in tasks:
        with suppress(OSError):  # the thread has ended
            threads_s[int(task.name)] = _cpu_s(_read_stat(task))
    return Usage(
        time.monotonic_ns(),
        _cpu_s(fields),
        int(fields[7]) + int(fields[9]),  # minor and major
        sum(voluntary for voluntary, _ in switches),
        sum(involuntary for _, involuntary in switches),
        threads_s,
    )


def read_stolen_time(file: Path = Path("/proc/stat")) -> StolenTime:
    """Look at the time that a hypervisor gave to others; zeros where there is none."""
    ticks = [int(word) for word in file.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    return StolenTime(ticks[7], sum(ticks))  # user to steal, proc(5); guests count as user


def read_busy_s(file: Path = Path("/proc/stat")) -> tuple[float, float]:
    """Return how long this machine's processors have worked, and have been there, in seconds."""
    ticks = [int(word) for word in file.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # idle and iowait, proc(5)
    per_s = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / per_s, sum(ticks) / per_s


def _read_stat(folder: Path) -> list[str]:
    """Return the fields behind the name, from the state on, proc_pid_stat(5)."""
    return (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _cpu_s(fields: list[str]) -> float:
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def _read_switches(task: Path) -> tuple[int, int]:
    try:
        lines = (task / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # the thread has ended
        return 0, 0
    counts = dict(line.split(":", 1) for line in lines if "ctxt_switches" in line)
    return int(counts["voluntary_ctxt_switches"]), int(counts["nonvoluntary_ctxt_switches"])
