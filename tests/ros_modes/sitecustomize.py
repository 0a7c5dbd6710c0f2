# SPDX-License-Identifier: Apache-2.0
"""Change the real rclpy of Jazzy into what another release has, in this process and its children.

    PYTHONPATH=tests/ros_modes ROS_MODE=humble .venv/bin/pytest tests/ros tests/faults

Python imports this file when it starts. Names that a release lacks are taken away once rclpy is
imported; what it does differently is done in its way. ``tests/data/ros_api`` has the facts.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec

MODES = ("humble", "lyrical")


class Changer:
    """Changes rclpy as soon as it was imported."""

    def find_spec(self, name, *_further):
        """Find rclpy as if this finder did not exist, and change it once it is loaded."""
        if name != "rclpy":
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                import_module(f"{os.environ['ROS_MODE']}_mode")

            spec.loader.exec_module = exec_module
        return spec


if os.environ.get("ROS_MODE"):
    if os.environ["ROS_MODE"] not in MODES:
        sys.exit(f"ROS_MODE must be one of {', '.join(MODES)}, not {os.environ['ROS_MODE']}")
    sys.meta_path.insert(0, Changer())
