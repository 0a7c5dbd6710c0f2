# SPDX-License-Identifier: Apache-2.0
"""``perception serve --ros`` in a process of its own, to be measured or attacked."""

from __future__ import annotations

import re
import sys
import time

from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.node_process import Program

START_TIMEOUT_S = 30.0
POLL_S = 0.05
ADDRESS = re.compile(r"http://[^\s)]+:\d+")


class PageServer(Program):
    """``perception serve --ros`` on a port that is free; what it says goes to its log."""

    name = "perception serve"
    stop_timeout_s = 10.0  # of which requests at work may take 5

    def __init__(self, *arguments: str) -> None:
        """Prepare to start it; ``arguments`` follow ``--ros``."""
        command = (sys.executable, "-m", "perception_node.cli", "serve", "--port", "0", "--ros")
        super().__init__([*command, *arguments])

    def wait_for_address(self) -> str:
        """Wait until it serves; return its address, such as http://127.0.0.1:40123.

        Raises:
            EnvironmentLacks: it does not start.

        """
        end_s = time.monotonic() + START_TIMEOUT_S
        while True:
            lines = self.log()
            if found := ADDRESS.search("\n".join(lines)):
                return found[0]
            if self.exit_code is not None or time.monotonic() > end_s:
                last = (lines or ["it said nothing"])[-1]
                raise EnvironmentLacks(f"perception serve did not start: {last}")
            time.sleep(POLL_S)
