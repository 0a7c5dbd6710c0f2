# SPDX-License-Identifier: Apache-2.0
"""Take the processor away: busy loops on every core, processes that are stopped for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from perception_node.bench.siege.attack import Attack
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.scene import Scene

LOOPS_PER_CORE = 4
LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
SHORTEST_STOP_S, LONGEST_STOP_S = 0.05, 3.0


@contextmanager
def busy_cores(per_core: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep every core busy with other processes of normal priority, which it yields."""
    command = [sys.executable, "-c", LOOP]
    number = per_core * len(os.sched_getaffinity(0))
    loops = [subprocess.Popen(command, env=ended_with_us()) for _ in range(number)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def steal(_scene: Scene, _source: random.Random, until: Until) -> Iterator[object]:
    """Keep all cores busy; each loop is an input."""
    with busy_cores(LOOPS_PER_CORE) as loops:
        yield from loops
        while not until.wait(1.0):
            pass


def stop(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Stop a process (SIGSTOP) and let it go on (SIGCONT), again and again."""
    while not until.is_over:
        program = source.choice(scene.targets).program
        try:
            _send(program.pid, signal.SIGSTOP)
            until.wait(source.uniform(SHORTEST_STOP_S, LONGEST_STOP_S))
        finally:
            _send(program.pid, signal.SIGCONT)
        until.wait(source.uniform(SHORTEST_STOP_S, 1.0))
        yield


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended, which the siege sees by itself
        os.kill(process, number)


STEAL = Attack("load", "busy loops on every core, four for each", steal, seconds=15.0)
STOP = Attack("stops", "processes stopped and continued", stop)
