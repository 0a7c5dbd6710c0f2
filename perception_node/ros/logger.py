# SPDX-License-Identifier: Apache-2.0
"""The node's logger: a message is shown whatever is in it, and never looks like another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.printable import printable_lines
from perception_node.ros.compat import log_for_caller

if TYPE_CHECKING:
    from perception_node.untyped import Passed, RosObject


log_for_caller(__file__)


class PrintableLogger:
    """Hands messages on to a logger of rclpy, printable; lines after the first are indented.

    rclpy remembers for each line of code with which severity it logs, so there is one here for
    each.
    """

    def __init__(self, logger: RosObject) -> None:
        """Log to ``logger``."""
        self._logger = logger

    def debug(self, message: object, **filters: Passed) -> bool:
        """Log what helps to find a bug."""
        return bool(self._logger.debug(printable_lines(message), **filters))

    def info(self, message: object, **filters: Passed) -> bool:
        """Log what is as it should be."""
        return bool(self._logger.info(printable_lines(message), **filters))

    def warning(self, message: object, **filters: Passed) -> bool:
        """Log what somebody should look at."""
        return bool(self._logger.warning(printable_lines(message), **filters))

    def warn(self, message: object, **filters: Passed) -> bool:
        """Log as ``warning``, which rclpy itself calls by this name."""
        return bool(self._logger.warning(printable_lines(message), **filters))

    def error(self, message: object, **filters: Passed) -> bool:
        """Log what failed."""
        return bool(self._logger.error(printable_lines(message), **filters))

    def fatal(self, message: object, **filters: Passed) -> bool:
        """Log why the process ends."""
        return bool(self._logger.fatal(printable_lines(message), **filters))

    def __getattr__(self, name: str) -> RosObject:
        """Return what else rclpy asks its logger for."""
        return getattr(self._logger, name)
