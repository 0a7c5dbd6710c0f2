# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says about the limits that scheduling and memory locking meet."""

from __future__ import annotations

import resource

from perception_node.config.sections import MAX_PRIORITY
from perception_node.doctor.findings import OK, OPTIONAL, Finding
from perception_node.system.process import CAP_IPC_LOCK, CAP_SYS_NICE, has_capability

LIMITS_FILE = "/etc/security/limits.d/90-perception.conf"


def check_priority() -> Finding:
    """Look at the highest real-time priority that a process of this user may take."""
    highest, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    is_unlimited = highest == resource.RLIM_INFINITY or has_capability(CAP_SYS_NICE)
    if is_unlimited or highest >= MAX_PRIORITY:
        return Finding("real time", OK, f"priorities up to {MAX_PRIORITY}")
    found = f"priorities up to {highest}" if highest else "not permitted"
    advice = _grant("scheduling_policy fifo or rr", "rtprio", MAX_PRIORITY)
    return Finding("real time", OPTIONAL, found, advice)


def check_locked_memory() -> Finding:
    """Look at how much memory a process of this user may keep from being swapped out."""
    size_bytes, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if size_bytes == resource.RLIM_INFINITY or has_capability(CAP_IPC_LOCK):
        return Finding("locked memory", OK, "unlimited")
    advice = _grant("lock_memory", "memlock", -1)
    return Finding("locked memory", OPTIONAL, f"at most {size_bytes >> 10} KiB", advice)


def _grant(parameter: str, item: str, value: int) -> str:
    """Return the command that grants a limit, -1 for none, from the next login on."""
    return (
        f"for {parameter} (in Docker: --ulimit {item}={value}), from the next login on: "
        f'echo "$USER - {item} {value}" | sudo tee -a {LIMITS_FILE}'
    )
