# SPDX-License-Identifier: Apache-2.0
"""The node as it is, but that its log says when everything was imported."""

from __future__ import annotations

import sys
import time
from importlib import import_module

from perception_node.ros.main import main

IMPORTED = "imported"


def start() -> int:
    """Import what the node would import next, say so as its log does, and run the node."""
    import_module("perception_node.ros.run")
    sec, nanosec = divmod(time.time_ns(), 1_000_000_000)
    sys.stderr.write(f"[INFO] [{sec}.{nanosec:09}] [perception]: {IMPORTED}\n")
    return main()


if __name__ == "__main__":
    sys.exit(start())
