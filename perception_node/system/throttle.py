# SPDX-License-Identifier: Apache-2.0
"""Let one line through per subject and period, so that a broken camera cannot flood the log."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """Says for each subject whether its next line is due. Used from one thread."""

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._last_s: dict[str, float] = {}

    def is_due(self, subject: str) -> bool:
        """Return True at most once per period and subject."""
        now_s = self._clock()
        if now_s - self._last_s.get(subject, -math.inf) < self._period_s:
            return False
        self._last_s[subject] = now_s
        return True
