# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 image classifier node: any classifier in, trusted results out, on time."""

import os

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime reports how it is used to its maker, over the network and with files in
# ~/.cache, unless this is set before it is imported. A robot talks to nobody it was not told to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
