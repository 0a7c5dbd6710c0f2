# SPDX-License-Identifier: Apache-2.0
"""The node's process as its kernel sees it: memory, descriptors, threads."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from perception_node.ros.node_process import STOP_TIMEOUT_S, NodeProcess

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


class WatchedNode(NodeProcess):
    """A node in a process of its own that can be looked at, also after its end."""

    def __enter__(self) -> WatchedNode:
        """Start the process."""
        super().__enter__()
        return self

    def end(self) -> int:
        """End the process with SIGTERM and return its exit code; negative if it was killed."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def sample(self) -> ProcessSample | None:
        """Look at the process; None once it has ended."""
        try:
            return read_sample(self._process.pid)
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
