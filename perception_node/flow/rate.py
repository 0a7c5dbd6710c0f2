# SPDX-License-Identifier: Apache-2.0
"""How often images come, and how often they are let through."""

from __future__ import annotations

import math
from collections import deque

SECOND_NS = 1_000_000_000
NEVER_NS = 10**18
INTERVALS = 10


class RateMeter:
    """Measures a rate over the last ten intervals. Fed by one thread, read by any."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, int, bool]] = deque(maxlen=INTERVALS + 1)

    def tick(self, now_ns: int, events: int = 1, *, is_at_least: bool = False) -> None:
        """Note one event, or several of which only the last was seen; maybe there were more."""
        self._ticks.append((now_ns, events, is_at_least))

    @property
    def is_at_least(self) -> bool:
        """Whether the rate may be higher than ``rate_hz`` says."""
        return any(is_at_least for _, _, is_at_least in tuple(self._ticks))

    def rate_hz(self, now_ns: int) -> float | None:
        """Return events per second, falling while none come; None before the second event."""
        ticks = tuple(self._ticks)
        if len(ticks) < 2:  # noqa: PLR2004 - an interval has two ends
            return None
        last_ns, events = ticks[-1][0], sum(events for _, events, _ in ticks[1:])
        mean_ns = (last_ns - ticks[0][0]) / events
        return SECOND_NS / max(mean_ns, now_ns - last_ns, 1)


class RateLimit:
    """Lets at most so many events per second through, evenly spaced. Used from one thread."""

    def __init__(self) -> None:
        self._begun_ns: float = -math.inf  # when the present interval began

    def admits(self, now_ns: int, max_rate_hz: float) -> bool:
        """Return whether the event of this moment is let through; a rate of 0 sets no limit."""
        if max_rate_hz <= 0.0:
            self._begun_ns = now_ns
            return True
        # Not kept from one event to the next: the rate may be raised meanwhile.
        interval_ns = int(min(SECOND_NS / max_rate_hz, NEVER_NS))
        due_ns = self._begun_ns + interval_ns
        if now_ns < due_ns:
            return False
        # From when it was due, not from now: rounding up to the next image would lower the rate.
        self._begun_ns = due_ns if now_ns - due_ns < interval_ns else now_ns
        return True
