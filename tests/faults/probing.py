# SPDX-License-Identifier: Apache-2.0
"""Confine processes that each lack one rule; print which promises they say do not hold."""

import json
import os
import sys

from perception_node.engines.importing.sandbox import confinement, landlock, seccomp
from perception_node.engines.importing.sandbox.system_calls import REFUSED

COMMANDS = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}
CALLS = """
    socket execve kill tkill pidfd_open timer_create mq_notify setpriority sched_setaffinity
    sched_setscheduler sched_setparam sched_setattr ioprio_set setpgid process_vm_readv
    process_vm_writev msgrcv keyctl flock
""".split()


def missing_without(rule: str) -> list[str]:
    """Return what a process finds missing whose filter lacks a rule."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        landlock.SCOPE_SINCE = sys.maxsize  # as before Linux 6.12: signals are seccomp's alone
        if rule in COMMANDS:
            seccomp.FCNTL_COMMANDS = {**seccomp.FCNTL_COMMANDS, rule: COMMANDS[rule]}
        elif rule == "SIOCSPGRP":
            seccomp.IOCTL_COMMANDS = {**seccomp.IOCTL_COMMANDS, rule: 0x8902}
        elif rule == "PR_SET_PDEATHSIG":
            seccomp.PRCTL_OPTIONS = {**seccomp.PRCTL_OPTIONS, rule: 1}
        else:
            seccomp.REFUSED = {name: n for name, n in REFUSED.items() if name != rule}
        missing = confinement.confine(confinement.Limits())
        os.write(writing, json.dumps(missing).encode())
        os._exit(0)
    os.close(writing)
    os.wait()
    return json.loads(os.read(reading, 4096))


if __name__ == "__main__":
    rules = ["", *CALLS, *COMMANDS, "SIOCSPGRP", "PR_SET_PDEATHSIG"]
    sys.stdout.write(json.dumps({rule: missing_without(rule) for rule in rules}))
