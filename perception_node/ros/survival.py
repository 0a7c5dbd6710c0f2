# SPDX-License-Identifier: Apache-2.0
"""Nothing that comes from the graph ends the node: an executor that survives it and says so."""

from __future__ import annotations

import time
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from perception_node.printable import printable
from perception_node.ros.compat import SturdyExecutor
from perception_node.ros.outputs import LOG_PERIOD_S
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.context import Context

MOST_CHARACTERS = 200
PAUSE_S = 0.001  # what fails at once and always must leave time for others


def make_executor(warn: Callable[[str], object], context: Context | None = None) -> SturdyExecutor:
    """Return an executor that says in one line what a callback has raised, and goes on.

    ``warn`` logs a line. The same failure is logged at most once in LOG_PERIOD_S.
    """
    throttle = Throttle(LOG_PERIOD_S)

    def survive(name: str, error: Exception) -> None:
        if throttle.is_due(f"{name} {type(error).__name__} {_place(error)}"):
            warn(f"{name}: survived {describe(error)} ({_place(error)})")
        time.sleep(PAUSE_S)

    return SturdyExecutor(survive, context)


def describe(error: Exception) -> str:
    """Return an error as one printable line, which quotes what somebody else has sent."""
    shown = printable(" ".join(str(error).split()), MOST_CHARACTERS)
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _place(error: Exception) -> str:
    """Return where an error was raised, such as ``time.py:45``."""
    frames = extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
