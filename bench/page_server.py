# SPDX-License-Identifier: Apache-2.0
"""``perception serve --ros`` in a process of its own, for benchmarks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks
from perception_node.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 10.0
POLL_S = 0.05
ADDRESS = re.compile(rb"http://[^\s)]+:\d+")


@contextmanager
def serve_page() -> Iterator[str]:
    """Run ``perception serve --ros`` on a port that is free; yield its address.

    Raises:
        EnvironmentLacks: it does not start.

    """
    command = [sys.executable, "-m", "perception_node.cli", "serve", "--port", "0", "--ros"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stderr=log, env=ended_with_us()) as process,
    ):
        try:
            yield _wait_for_address(process, log.fileno())
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_address(process: subprocess.Popen[bytes], log: int) -> str:
    end_s = time.monotonic() + START_TIMEOUT_S
    while True:
        text = os.pread(log, os.fstat(log).st_size, 0)
        if found := ADDRESS.search(text):
            return found[0].decode()
        if process.poll() is not None or time.monotonic() > end_s:
            last = (text.decode(errors="replace").splitlines() or ["it said nothing"])[-1]
            raise EnvironmentLacks(f"perception serve did not start: {last}")
        time.sleep(POLL_S)
