# SPDX-License-Identifier: Apache-2.0
"""Say in one line that ROS is not here, before anything of this package imports it."""

from __future__ import annotations

from importlib import import_module

from perception_node.installing import MissingPackage

NEEDED = (
    "rclpy",
    "sensor_msgs.msg",
    "vision_msgs.msg",
    "diagnostic_msgs.msg",
    "rosgraph_msgs.msg",
)


def require_ros() -> None:
    """Raise ``MissingPackage`` where rclpy or a message package cannot be imported."""
    for module in NEEDED:
        try:
            import_module(module)
        except ImportError as error:
            raise MissingPackage(error) from error
