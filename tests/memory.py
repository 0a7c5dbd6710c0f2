# SPDX-License-Identifier: Apache-2.0
"""How much memory another process has."""

from __future__ import annotations

from pathlib import Path

# What is its alone. The kernel also counts the shared memory of a camera, up to 30 MB of it in the
# course of time: whatever of it was looked at once.
OWN = "RssAnon"


def memory_kib(pid: int, row: str = "VmRSS") -> int:
    """Return the memory of a process now; VmHWM is the most that it has ever had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))
