# SPDX-License-Identifier: Apache-2.0
"""Run a node's callbacks on a thread of its own, and end it without a race."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rclpy.executors import ExternalShutdownException

from perception_node.ros.survival import make_executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node


class SpinningThread:
    """Runs a node's callbacks, and survives what they raise and what cannot be read.

    ``Executor.shutdown`` does not wait for the thread: it destroys what that is about to wait
    for, and the thread then now and then ends with a traceback, or never. So it ends first.
    """

    def __init__(self, node: Node, name: str, warn: Callable[[str], object] | None = None) -> None:
        """Prepare; ``warn`` logs what was survived, the node's own logger if there is none."""
        self._node = node
        self._executor = make_executor(warn or node.get_logger().warning, node.context)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._executor.add_node(self._node)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread once its callback has returned; the node stays the caller's."""
        # A task, because ``wake`` alone does not let the executor return from waiting.
        self._executor.create_task(self._is_ending.set)
        self._thread.join()
        self._executor.shutdown()

    def _run(self) -> None:
        with suppress(ExternalShutdownException):
            while self._node.context.ok() and not self._is_ending.is_set():
                self._executor.spin_once()
