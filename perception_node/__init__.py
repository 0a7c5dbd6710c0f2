# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 image classifier node: any classifier in, trusted results out, on time."""

import os
import sys

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime reports how it is used to its maker, over the network and with files in
# ~/.cache, unless this is set before it is imported. A robot talks to nobody it was not told to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if sys.version_info < (3, 10):  # noqa: UP036 - pip looks at python_requires, colcon does not
    _found = ".".join(map(str, sys.version_info[:3]))
    sys.stderr.write(
        f"perception_node needs Python 3.10 or later, {sys.executable} is {_found}; "
        "on a Jetson: install JetPack 6.2 or later (NVIDIA SDK Manager)\n"
    )
    sys.exit(3)
