# SPDX-License-Identifier: Apache-2.0
"""ROS for a short-lived command: initialised, one node, shut down."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import rclpy
from rclpy.signals import SignalHandlerOptions

from perception_node.errors import ConfigError, quote
from perception_node.ros.transport import use_large_frames
from perception_node.system.files import require_regular_file
from perception_node.system.process import keep_large_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rclpy.node import Node

FILE_OPTIONS = ("--params-file", "--log-config-file")
MAX_FILE_BYTES = 16 << 20


def initialise(args: list[str] | None) -> None:
    """Initialise ROS; signals stay the caller's.

    Raises:
        ConfigError: the ROS arguments make no sense.

    """
    _require_files(sys.argv if args is None else args)
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except UnicodeEncodeError as error:
        # What Python could not read it keeps as surrogates: not UTF-8, or read in the locale C.
        msg = f"{quote(error.object)} is not UTF-8; rename it, or set LC_ALL to C.UTF-8"
        raise ConfigError(msg) from error


def _require_files(args: list[str]) -> None:
    """Require what ROS itself shall read to be files: of a FIFO it would read for ever."""
    for option, name in pairwise(args):
        if option in FILE_OPTIONS:
            try:
                require_regular_file(Path(name), MAX_FILE_BYTES)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(f"{option} {name}: cannot be read: {reason}") from error


@contextmanager
def open_session(node_name: str, ros_arguments: list[str] | None = None) -> Iterator[Node]:
    """Initialise ROS for camera-sized messages and yield a node; signals stay the caller's.

    ``ros_arguments`` begin with ``--ros-args``.

    Raises:
        ConfigError: they make no sense.

    """
    keep_large_blocks()
    use_large_frames()
    initialise(ros_arguments or [])
    node = rclpy.create_node(node_name)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
