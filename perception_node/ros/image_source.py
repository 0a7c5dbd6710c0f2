# SPDX-License-Identifier: Apache-2.0
"""What the frame loop asks ROS for: the newest images of all cameras, and the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from perception_node.flow.camera import Arrival
from perception_node.ros.compat import MessageWaiter, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.clock import Clock
    from rclpy.context import Context
    from rclpy.subscription import Subscription


class SubscribedImages:
    """The newest image of each camera that is subscribed to; see ``ImageSource``."""

    def __init__(self, context: Context, cameras: int) -> None:
        """Begin with no subscription."""
        self._waiter = MessageWaiter(context)
        # Replaced as a whole, so that the loop reads one state of it.
        self._subscriptions: dict[int, Subscription] = {}
        self._taken_ns = [0] * cameras

    def attach(self, camera: int, subscription: Subscription) -> None:
        """Wait for a camera's images as well; called by the executor's thread."""
        self._taken_ns[camera] = time.monotonic_ns()
        self._subscriptions = {**self._subscriptions, camera: subscription}
        self.wake()

    def detach(self, camera: int) -> None:
        """Take no more images of a camera; called by the executor's thread."""
        rest = self._subscriptions.items()
        self._subscriptions = {index: one for index, one in rest if index != camera}
        self.wake()

    def wait(self) -> Sequence[int]:
        """Wait until cameras have images, and return which; none after ``wake``.

        Raises:
            RCLError: the middleware failed.

        """
        return self._waiter.wait(self._subscriptions)

    def take(self, camera: int) -> Arrival | None:
        """Take a camera's newest image; None if there is none any more.

        Raises:
            RCLError: the middleware failed.

        """
        subscription = self._subscriptions.get(camera)
        taken = None if subscription is None else take(subscription)
        if taken is None:
            return None
        now_ns = time.monotonic_ns()
        waited_ns = time.time_ns() - taken.received_ns if taken.received_ns else 0
        # It came after the one before was taken, whatever the system's clock does meanwhile.
        arrived_ns = now_ns - min(max(0, waited_ns), now_ns - self._taken_ns[camera])
        self._taken_ns[camera] = now_ns
        return Arrival(taken.message, arrived_ns, taken.number)

    def wake(self) -> None:
        """Let ``wait`` return; called by any thread."""
        self._waiter.wake()


def clock_reader(clock: Clock) -> Callable[[], int]:
    """Return what reads a node's clock, in nanoseconds; 0 while simulated time has not begun."""
    return lambda: int(clock.now().nanoseconds)
