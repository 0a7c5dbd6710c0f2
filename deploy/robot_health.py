#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Say whether the node is alive: exit code 0 if its /diagnostics are heard, 1 if they are not.

They come from the thread that answers services and transitions, once a second
(`diagnostics_period_s`), in every state of the lifecycle. So they stop when the node hangs, and go
on when the camera is lost: restarting the node would not bring that back.

PERCEPTION_NODE names the node if its name or namespace is another one, such as /front/perception.
"""

import os
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray

PATIENCE_S = 8.0  # less than the timeout of HEALTHCHECK, so that it ends with a reason
OWN_NAME = f"perception_health_{os.getpid()}"


def listen(target: str) -> set[str]:
    """Return the names of the nodes that were heard, as soon as ``target`` is one of them."""
    heard: set[str] = set()
    node = rclpy.create_node(OWN_NAME, start_parameter_services=False, enable_rosout=False)
    node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda message: heard.update(status.name.partition(": ")[0] for status in message.status),
        10,
    )
    end_s = time.monotonic() + PATIENCE_S
    while target not in heard and (left_s := end_s - time.monotonic()) > 0:
        rclpy.spin_once(node, timeout_sec=left_s)
    return heard


def main() -> int:
    """Listen, and say in one line what is wrong."""
    # Announced on this machine alone: a participant that comes and goes is a cost for all others.
    if "ROS_DISCOVERY_SERVER" not in os.environ:
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    target = os.environ.get("PERCEPTION_NODE", "/perception").lstrip("/")
    rclpy.init()
    heard = listen(target)
    rclpy.shutdown()
    if target in heard:
        print(f"healthy: /diagnostics of /{target} are heard")
        return 0
    others = ", ".join(f"/{name}" for name in sorted(heard))
    advice = f"heard: {others}; set PERCEPTION_NODE" if others else "it hangs, see its log"
    print(f"unhealthy: no /diagnostics of /{target} in {PATIENCE_S:g} s; {advice}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
