# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says about shared memory that killed processes left behind.

A process that uses Fast DDS owns a segment ``fastrtps_<16 hexadecimal digits>`` (``fastdds_`` from
Fast DDS 3 on) and, as long as it lives, the ``flock`` of the empty file beside it that ends in
``_el``. A process that is killed removes neither; the kernel only releases the lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from perception_node.doctor.findings import OK, OPTIONAL, Finding
from perception_node.doctor.transport_findings import SHARED_MEMORY

SEGMENT_LOCK = re.compile(r"((fastrtps|fastdds)_[0-9a-f]{16})_el")
BLOCK_BYTES = 512  # of st_blocks


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in shared memory, its prefix, the memory it takes, and whether its owner lives."""

    path: Path
    prefix: str
    size_bytes: int
    is_in_use: bool


def check_segments(folder: Path = SHARED_MEMORY) -> Finding:
    """Count the segments that nobody owns any more, and say how to remove them."""
    segments = find_segments(folder)
    stale = [segment for segment in segments if not segment.is_in_use]
    found = f"{len(segments) - len(stale)} in use, {len(stale)} left behind by killed processes"
    if not stale:
        return Finding("DDS segments", OK, found)
    mebibytes = sum(segment.size_bytes for segment in stale) / (1 << 20)
    advice = _removal(folder, {segment.prefix for segment in stale})
    return Finding("DDS segments", OPTIONAL, f"{found} ({mebibytes:.0f} MiB)", advice)


def find_segments(folder: Path) -> list[Segment]:
    """Return the segments of Fast DDS in ``folder`` that have a lock file.

    The files of ports are not looked at. They are small, and their names are used again: while we
    probe the lock of one, a process that starts could not take it. Nobody locks an old segment.
    """
    try:
        locks = [path for path in folder.iterdir() if SEGMENT_LOCK.fullmatch(path.name)]
    except OSError:
        return []
    return [_segment(lock) for lock in sorted(locks)]


def _segment(lock: Path) -> Segment:
    path = lock.with_name(lock.name.removesuffix("_el"))
    try:
        size_bytes = path.stat().st_blocks * BLOCK_BYTES
    except OSError:
        size_bytes = 0
    return Segment(path, path.name.partition("_")[0], size_bytes, _is_locked(lock))


def _is_locked(lock: Path) -> bool:
    """Return whether a process owns a segment; the lock itself is left as it was."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # closed in the meantime, or not ours to judge
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _removal(folder: Path, prefixes: set[str]) -> str:
    """Return a command that removes what nobody owns at the time it runs.

    The tool of Fast DDS knows the names of its own major version only, and ``/dev/shm`` only.
    """
    programs = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    tool = shutil.which("fastdds", path=programs)
    if tool and folder == SHARED_MEMORY and prefixes == {"fastrtps"}:
        return f"{tool if shutil.which('fastdds') is None else 'fastdds'} shm clean"
    locks = " ".join(f"{prefix}_*_el" for prefix in sorted(prefixes))
    return (
        f"(cd {folder} && for f in {locks}; do "
        'flock -n "$f" rm -f "$f" "${f%_el}" "sem.${f%_el}_mutex"; done)'
    )
