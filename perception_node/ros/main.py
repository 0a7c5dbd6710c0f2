# SPDX-License-Identifier: Apache-2.0
"""The executable ``perception_node``: one node, an executor, a clean end."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from perception_node.installing import MissingPackage
from perception_node.system.process import share_one_heap
from perception_node.system.signals import ENDING

if TYPE_CHECKING:
    from types import FrameType

EXIT_ENVIRONMENT = 3


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End at once: an exception here becomes an ImportError in a library that is being loaded."""
    os._exit(0)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or a shutdown; return the exit code.

    0: ended as asked. 1: a bug, or no engine for too long; see the log. 2: a parameter given at
    start makes no sense. 3: a Python package is missing.
    """
    # Importing takes a second, and a signal may come at any moment.
    for number in ENDING:
        signal.signal(number, _leave)
    share_one_heap()
    try:
        from perception_node.ros.run import run  # noqa: PLC0415 - the slow imports
    except ImportError as error:  # missing, or it cannot be loaded: NumPy says so in twenty lines
        reason = str(MissingPackage(error)).strip().splitlines()
        sys.stderr.write(f"perception_node: {reason[0]}\n")
        return EXIT_ENVIRONMENT
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
