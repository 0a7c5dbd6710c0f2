# SPDX-License-Identifier: Apache-2.0
"""How much memory another process has, or had at its height."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.builders import ROOT

# What is its alone. The kernel also counts the shared memory of a camera, up to 30 MB of it in the
# course of time: whatever of it was looked at once.
OWN = "RssAnon"


def memory_kib(pid: int, row: str = "VmRSS") -> int:
    """Return the memory of a process now; VmHWM is the most that it has ever had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))


@contextmanager
def cheap(*, most_s: float, most_kib: int):
    """Fail where a block takes memory or CPU time by the claims of a file of a few kB."""
    gc.disable()  # it would look through all that other tests have left
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start_s = time.thread_time()
    try:
        yield
    finally:
        gc.enable()
    assert time.thread_time() - start_s < most_s
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < most_kib


def peak_mib(imports: str, program: str, *arguments: object) -> tuple[float, str]:
    """Run a program in a process of its own.

    Args:
        imports: what it needs; the memory that this takes does not count.
        program: what it does; an ``Exception`` ends it.
        arguments: the program finds them as ``sys.argv[1:]``, as text.

    Returns:
        How many MiB more it had at its height than before, and the exception, or an empty string.

    """
    lines = "".join(f"    {line}\n" for line in program.strip().splitlines())
    code = (
        f"import json, os, sys\nfrom tests.memory import memory_kib\n{imports}\n"
        "before, error = memory_kib(os.getpid()), ''\n"
        f"try:\n{lines}"
        "except Exception as found:\n    error = f'{type(found).__name__}: {found}'\n"
        "print(json.dumps([(memory_kib(os.getpid(), 'VmHWM') - before) / 1024, error]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    peak, error = json.loads(done.stdout.splitlines()[-1])
    return peak, error
