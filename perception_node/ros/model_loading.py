# SPDX-License-Identifier: Apache-2.0
"""The node's model while it is being loaded: watched by a timer, told in log and /diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType

from perception_node.flow import health
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.engines.loading import Loading

LOOK_PERIOD_S, LOG_PERIOD_S = 0.5, 5.0


class ModelLoading:
    """One loading after the other; used on the executor's thread."""

    def __init__(self, node: Node, make: Callable[[], Loading]) -> None:
        """Prepare; ``make`` prepares the loading of what is configured."""
        self._node, self._make = node, make
        self._loading: Loading | None = None
        self._timer: Any = None

    @property
    def is_running(self) -> bool:
        """Whether a model is being loaded, or is loaded and was not fetched."""
        return self._loading is not None

    def begin(self, on_end: Callable[[], None] | None = None) -> None:
        """Load on another thread; ``on_end`` is called from any once ``finish`` need not wait."""
        self._loading = loading = self._make()
        throttle = Throttle(LOG_PERIOD_S)
        throttle.is_due("load")  # most are ready before there is anything to say

        def look() -> None:
            loading.look()
            if throttle.is_due("build" if loading.is_building else "load"):
                line = f"configuring: {loading.phase}, {loading.elapsed_s:.0f} s"
                self._node.get_logger().info(line)

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        group = MutuallyExclusiveCallbackGroup()  # the node's own would keep a reference for ever
        self._timer = self._node.create_timer(LOOK_PERIOD_S, look, group, clock=steady)
        loading.start(on_end)

    def finish(self) -> FallbackPipeline:
        """Return the pipeline; load now what was not begun.

        Raises:
            PerceptionError: see ``Loading.wait``.

        """
        if self._loading is None:
            self.begin()
        try:
            return self._loading.wait()  # type: ignore[union-attr] # begin() has made it
        finally:
            self._forget()

    def give_up(self, why: str) -> None:
        """Let ``finish`` raise now, if a model is being loaded."""
        if self._loading is not None:
            self._loading.give_up(why)

    def discard(self) -> None:
        """Give up what will not be fetched any more."""
        if self._loading is not None:
            self._loading.discard("the node ends")
            self._forget()

    def statuses(self) -> list[health.Status]:
        """Say for /diagnostics what is being done; empty if nothing is loaded."""
        loading = self._loading
        return [] if loading is None else health.loading_statuses(loading.phase, loading.elapsed_s)

    def _forget(self) -> None:
        timer, self._loading, self._timer = self._timer, None, None
        if timer is not None:
            self._node.destroy_timer(timer)
