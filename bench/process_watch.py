# SPDX-License-Identifier: Apache-2.0
"""A process as its kernel sees it: memory, descriptors, threads."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_LINE = re.compile(r"^(\w+):\s+(\d+)(?: kB)?$", re.MULTILINE)
KIB_PER_MIB = 1024
MACHINE = Path("/proc/stat")


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
    status = _read_status(folder)
    return ProcessSample(
        time.monotonic(),
        status["RssAnon"] / KIB_PER_MIB,
        status["RssShmem"] / KIB_PER_MIB,
        sum(1 for _ in (folder / "fd").iterdir()),
        status["Threads"],
    )


def read_memory_mib(process: int, key: str) -> float:
    """Return a line of a process's memory in MiB, such as VmRSS (now) or VmHWM (its peak).

    Raises:
        OSError: there is none of this number.
        KeyError: it has ended and was not waited for yet.

    """
    return _read_status(Path("/proc") / str(process))[key] / KIB_PER_MIB


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
    voluntary = involuntary = 0
    threads_s = {}
    for task in (folder / "task").iterdir():
        with suppress(OSError):  # the thread has ended
            status = _read_status(task)
            voluntary += status["voluntary_ctxt_switches"]
            involuntary += status["nonvoluntary_ctxt_switches"]
            threads_s[int(task.name)] = _cpu_s(_read_stat(task))
    faults = int(fields[7]) + int(fields[9])  # minor and major
    return Usage(time.monotonic_ns(), _cpu_s(fields), faults, voluntary, involuntary, threads_s)


def read_stolen_time(file: Path = MACHINE) -> StolenTime:
    """Look at the time that a hypervisor gave to others; zeros where there is none."""
    ticks = _read_ticks(file)
    return StolenTime(ticks[7], sum(ticks))  # user to steal, proc(5); guests count as user


def read_busy_s() -> tuple[float, float]:
    """Return how long this machine's processors have worked, and have been there, in seconds."""
    ticks = _read_ticks(MACHINE)
    idle = ticks[3] + ticks[4]  # idle and iowait, proc(5)
    per_s = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / per_s, sum(ticks) / per_s


def _read_stat(folder: Path) -> list[str]:
    """Return the fields behind the name, from the state on, proc_pid_stat(5)."""
    return (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _cpu_s(fields: list[str]) -> float:
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def _read_status(folder: Path) -> dict[str, int]:
    """Return the lines of a process or thread that are numbers, in KiB where they have a unit."""
    text = (folder / "status").read_text(encoding="utf-8", errors="replace")
    return {key: int(number) for key, number in STATUS_LINE.findall(text)}


def _read_ticks(file: Path) -> list[int]:
    """Return the ticks of all processors together: user to steal, proc(5)."""
    return [int(word) for word in file.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
