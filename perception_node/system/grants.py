# SPDX-License-Identifier: Apache-2.0
"""What the kernel answered to a wish, and the command that would change its mind."""

from __future__ import annotations

import os
from dataclasses import dataclass

from perception_node.system.threads import find_usable_cpus, format_cpus


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to one wish; ``str()`` makes it one line for a log.

    Attributes:
        what: the wish.
        problem: why it was refused, empty if it was granted.
        advice: the command that would grant it.

    """

    what: str
    problem: str = ""
    advice: str = ""

    @property
    def granted(self) -> bool:
        """Whether the wish came true."""
        return not self.problem

    def __str__(self) -> str:
        """Return one line."""
        if self.granted:
            return f"granted: {self.what}"
        return f"refused: {self.what}: {self.problem}; to grant it: {self.advice}"


def advise_on_scheduling(priority: int, *, is_permitted: bool) -> str:
    """Return how to get a real-time priority that was refused.

    Args:
        priority: the one that was asked for.
        is_permitted: the limits of this process allow it, so something else does not.

    """
    if is_permitted:
        return (
            "the limits allow it, so give the control group a share (CONFIG_RT_GROUP_SCHED: "
            "cpu.rt_runtime_us, docker --cpu-rt-runtime), or lift that rule and the kernel's "
            "throttle: sudo sysctl kernel.sched_rt_runtime_us=-1 (to stay: /etc/sysctl.d), then "
            "activate the node again"
        )
    return (
        f"sudo prlimit --pid {os.getpid()} --rtprio={priority}, then activate the node again "
        f"(to stay: rtprio in /etc/security/limits.d, systemd LimitRTPRIO={priority}, "
        f"docker --ulimit rtprio={priority})"
    )


def advise_on_memory() -> str:
    """Return how to get memory locked."""
    return (
        f"sudo prlimit --pid {os.getpid()} --memlock=unlimited, then activate the node again "
        "(to stay: memlock in /etc/security/limits.d, systemd LimitMEMLOCK=infinity, "
        "docker --ulimit memlock=-1)"
    )


def advise_on_cpus() -> str:
    """Return which CPUs can be had, and how to get others."""
    return (
        f"choose of CPUs {format_cpus(find_usable_cpus())}, which this process may use, or give "
        "it more (systemd AllowedCPUs=, docker --cpuset-cpus)"
    )
