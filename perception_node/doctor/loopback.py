# SPDX-License-Identifier: Apache-2.0
"""Whether camera images reach a node on this machine: tried out between processes.

    python -m perception_node.doctor.loopback

plays a camera's driver twice: with the Fast DDS profile that the node uses, and as this shell
would start it. It prints the JSON object that ``try_cameras`` returns, or ``{"problem": ...}``.
The domain is a random one, and nothing leaves this machine.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from sensor_msgs.msg import Image

from perception_node.doctor.loopback_camera import FRAME, SENSOR_DATA, SENT, SIZES, topic_of
from perception_node.errors import EnvironmentLacks, PerceptionError
from perception_node.rehearsal.domain import use_private_domain
from perception_node.ros.compat import DISCOVERY_RANGE, LOCALHOST_ONLY, knows_discovery_range, take
from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.session import open_session
from perception_node.ros.transport import use_large_frames
from perception_node.system.guardian import ended_with_us
from perception_node.wire.images import peek_header

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.subscription import Subscription

    Counts = dict[str, int | None]

MEET_TIMEOUT_S, SEND_TIMEOUT_S, QUIET_S, POLL_S = 8.0, 8.0, 1.0, 0.002
BUILTIN_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
NETWORK = ("ROS_DOMAIN_ID", LOCALHOST_ONLY, "ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS")


def try_cameras() -> dict[str, Any]:
    """Send images from cameras in processes of their own to this one, and count what arrives.

    Returns:
        ``delivery``: BYTES or MESSAGES. ``sent``: images of each size. ``node`` and ``shell``: of
        a driver with the node's profile and of one from this shell, how many images of each size
        arrived; None for a size where the processes did not find each other. ``shell`` is None
        where that needs the network.

    Raises:
        PerceptionError: no two processes may meet, or this one gets not even its own images.

    """
    if os.environ.get(DISCOVERY_RANGE) == "OFF" and knows_discovery_range():
        problem = f"{DISCOVERY_RANGE}=OFF lets no process find another"
        raise EnvironmentLacks(f"{problem}; run: unset {DISCOVERY_RANGE}")
    shell = _leave_the_network()
    use_large_frames()
    node_environment = dict(os.environ)
    environments = {"node": node_environment}
    if shell not in (None, node_environment):
        environments["shell"] = shell
    with open_session("perception_doctor") as node:
        delivery = find_delivery(node, Image)
        counts = _try_each(node, environments, raw=delivery == BYTES)
    if shell == node_environment:
        counts["shell"] = counts["node"]
    return {"delivery": delivery, "sent": SENT, "shell": None, **counts}


def _leave_the_network() -> dict[str, str] | None:
    """Move to a private domain and return the environment of this shell there.

    None where that would tell something else: Fast DDS does not listen to
    FASTDDS_BUILTIN_TRANSPORTS once discovery is limited to this machine.
    """
    for name in NETWORK:
        os.environ.pop(name, None)
    was_local = os.environ.pop(DISCOVERY_RANGE, "") == "LOCALHOST"
    use_private_domain()
    return dict(os.environ) if was_local or not os.environ.get(BUILTIN_TRANSPORTS) else None


def _try_each(
    node: Node, environments: dict[str, dict[str, str]], *, raw: bool
) -> dict[str, Counts]:
    with ExitStack() as stack:
        cameras = {
            who: stack.enter_context(_Camera(who, environment))
            for who, environment in environments.items()
        }
        counts = {}
        for who, camera in cameras.items():
            subscriptions = {
                size: node.create_subscription(
                    Image, topic_of(who, size), lambda _: None, SENSOR_DATA, raw=raw
                )
                for size in SIZES
            }
            counts[who] = _count(camera, subscriptions)
        return counts


def _count(camera: _Camera, subscriptions: dict[str, Subscription]) -> Counts:
    """Count the images of one camera by size; no other sends more than tiny ones meanwhile."""
    met: set[str] = set()
    end_s = time.monotonic() + MEET_TIMEOUT_S
    while len(met) < len(subscriptions) and time.monotonic() < end_s:
        met |= {size for size, subscription in subscriptions.items() if _take_all(subscription)}
        time.sleep(POLL_S)
    camera.begin()
    counts = dict.fromkeys(met, 0)
    end_s = time.monotonic() + SEND_TIMEOUT_S
    has_sent = False
    while any(count < SENT for count in counts.values()) and time.monotonic() < end_s:
        if not has_sent and camera.has_sent():
            has_sent, end_s = True, time.monotonic() + QUIET_S
        for size in met:
            counts[size] += _take_all(subscriptions[size]).count(FRAME)
        time.sleep(POLL_S)
    return {size: counts.get(size) for size in subscriptions}


def _take_all(subscription: Subscription) -> list[str]:
    """Return the ``frame_id`` of each image that has come."""
    found = []
    while (taken := take(subscription)) is not None:
        found.append(peek_header(taken.message).frame_id)
    return found


class _Camera:
    """A process that plays a camera's driver from entering to leaving."""

    def __init__(self, who: str, environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-m", "perception_node.doctor.loopback_camera", who]
        self._environment = environment

    def __enter__(self) -> _Camera:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, env=ended_with_us(self._environment), stdin=pipe, stdout=pipe, text=True
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)
        return self

    def __exit__(self, *exception: object) -> None:
        """End it in order, so that it leaves nothing in shared memory."""
        try:
            self._process.communicate(timeout=QUIET_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def begin(self) -> None:
        """Let it send images of the real sizes; nothing happens where it has ended."""
        with suppress(BrokenPipeError):
            self._input.write("begin\n")
            self._input.flush()

    def has_sent(self) -> bool:
        """Whether it has sent them all, or has ended."""
        return bool(select.select([self._output], [], [], 0)[0])


def main() -> None:
    """Print what was found."""
    try:
        found = try_cameras()
    except PerceptionError as error:
        found = {"problem": str(error)}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
