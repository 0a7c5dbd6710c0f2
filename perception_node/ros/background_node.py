# SPDX-License-Identifier: Apache-2.0
"""A ROS node for a program that is not one: its own context and thread."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from perception_node.errors import ConfigError
from perception_node.ros.spinning import SpinningThread
from perception_node.ros.transport import use_large_frames

if TYPE_CHECKING:
    from collections.abc import Callable

HIGHEST_DOMAIN = 232  # beyond it there are no UDP ports, and Fast DDS ends the process


class BackgroundNode:
    """Spins a node from entering to leaving."""

    def __init__(
        self,
        name: str,
        domain: int,
        set_up: Callable[[Node], None],
        warn: Callable[[str], object],
    ) -> None:
        """Prepare.

        Args:
            name: of the node.
            domain: its ROS domain.
            set_up: makes its timers and subscriptions, before the thread runs.
            warn: logs in a line what the thread has survived.

        """
        self._name, self._domain = name, domain
        self._set_up, self._warn = set_up, warn

    def __enter__(self) -> BackgroundNode:
        """Join the ROS graph and start the thread.

        Raises:
            ConfigError: there is no such domain.

        """
        if not 0 <= self._domain <= HIGHEST_DOMAIN:
            problem = f"must be from 0 to {HIGHEST_DOMAIN}, found {self._domain}"
            raise ConfigError(f"ROS_DOMAIN_ID {problem}")
        use_large_frames()
        context = Context()
        with ExitStack() as undo:
            try:
                rclpy.init(args=[], context=context, domain_id=self._domain)
                undo.callback(context.try_shutdown)
                node = Node(
                    self._name,
                    context=context,
                    start_parameter_services=False,
                    enable_rosout=False,
                )
            except RuntimeError as error:
                problem = " ".join(str(error).split())
                raise ConfigError(f"ROS domain {self._domain}: {problem}") from error
            undo.callback(node.destroy_node)
            self._set_up(node)
            thread = SpinningThread(node, self._name, self._warn)
            thread.start()
            undo.callback(thread.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the thread and leave the graph."""
        self._undo.close()
