# SPDX-License-Identifier: Apache-2.0
"""The latency bound: which frames may be worked on, which results are published, and how old.

Ages are on the node's clock, durations on a steady one. Nothing but the time passes between two
frames here: a clock that jumps, stands still or begins late needs no reset.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.errors import LateFrame, MissingStamp, SlowDecoding, StaleFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from perception_node.config.sections import AgeReference

WINDOW = 50  # frames, of which the duration is remembered
AGES = 512  # results, of which the age is
BINS = 50  # of their histogram
IMPLAUSIBLE_NS = 10_000_000_000  # an image this old has another clock's stamp
PERCENTILE = 0.9  # one slow frame in ten must not condemn the next
# Kept back for the way from the last look at the clock to the middleware: at most 1 ms. It takes
# a microsecond, but on busy cores the kernel may stop the thread right there.
RESERVE = 0.05
LONGEST_RESERVE_NS = 1_000_000
SECOND_NS, NEVER_NS = 10**9, 10**18


class RemainingTime:
    """Predicts how long a frame takes from here to its end: the 90th percentile of the last 50."""

    def __init__(self) -> None:
        self._durations_ns: deque[int] = deque()
        self._ordered_ns: list[int] = []  # the same, in order: to sort them all costs each frame
        self._predicted_ns = 0
        self._forgotten = 0
        self._subject: Hashable = None

    def predict_ns(self) -> int:
        """Return the prediction; 0 as long as nothing is known. Called by any thread."""
        return self._predicted_ns

    def learn(self, duration_ns: int, subject: Hashable) -> None:
        """Take in one frame's duration; another ``subject``, such as its size, begins anew."""
        if subject != self._subject:
            self._subject = subject
            self._durations_ns.clear()
            self._ordered_ns.clear()
            self._forgotten = 0
        # It stands for those forgotten as well: while a spell lasts, trials become rare.
        for _ in range(1 + self._forgotten):
            if len(self._durations_ns) == WINDOW:
                self._drop(self._durations_ns.popleft())
            self._durations_ns.append(duration_ns)
            insort(self._ordered_ns, duration_ns)
        self._forgotten = 0
        self._predict()

    def forget_newest(self) -> None:
        """Forget one frame, so that a slow spell does not keep frames out for long."""
        if self._durations_ns:
            self._drop(self._durations_ns.pop())
            self._forgotten += 1
            self._predict()

    def _drop(self, duration_ns: int) -> None:
        del self._ordered_ns[bisect_left(self._ordered_ns, duration_ns)]

    def _predict(self) -> None:
        ordered = self._ordered_ns
        self._predicted_ns = ordered[math.ceil(PERCENTILE * len(ordered)) - 1] if ordered else 0


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


class Deadline:
    """Decides for the frames of one camera.

    Attributes:
        remaining: how long frames take.
        refusal: why the last stale frame was stale, in words; empty if none was.

    """

    def __init__(
        self,
        reference: AgeReference,
        now_ns: Callable[[], int],
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Judge ages from ``reference`` on.

        Args:
            reference: ``stamp`` or ``arrival``; see ``LatencyConfig.age_reference``.
            now_ns: the node's clock, nanoseconds; 0 while simulated time has not begun.
            steady_ns: a clock that only ever goes forward.

        """
        self.remaining = RemainingTime()
        self.refusal = ""
        self._counts_from_arrival = reference == "arrival"
        self._now_ns = now_ns
        self._steady_ns = steady_ns

    def age_ns(self, stamp_ns: int, arrived_ns: int) -> int | None:
        """Return how old an image is; None as long as the node's clock has not begun.

        Raises:
            MissingStamp: the age counts from the stamp, and that is 0.

        """
        if self._counts_from_arrival:
            return self._steady_ns() - arrived_ns
        if stamp_ns == 0:
            raise MissingStamp
        now_ns = self._now_ns()
        return now_ns - stamp_ns if now_ns else None

    def admit(self, age_ns: int | None, limit_ns: int) -> None:
        """Let a frame through if its result will probably be in time.

        Raises:
            StaleFrame: it will not, or its age cannot be judged.

        """
        predicted_ns = self.remaining.predict_ns()
        latest_ns = limit_ns - reserve_ns(limit_ns) - predicted_ns
        if age_ns is not None and -limit_ns <= age_ns <= latest_ns:
            return  # nearly every frame; the words below are for the others
        refusal = self._find_refusal(age_ns, limit_ns, predicted_ns)
        if refusal:
            self.refusal = refusal
            if age_ns is not None and abs(age_ns) <= limit_ns:  # so it was the prediction
                self.remaining.forget_newest()
            raise StaleFrame(refusal)

    def require_decoded(self, age_ns: int | None, limit_ns: int, took_ns: int) -> None:
        """Let an image through whose deadline has not passed while it was decoded.

        Raises:
            SlowDecoding: it has.

        """
        if age_ns is not None and age_ns > limit_ns - reserve_ns(limit_ns):
            raise SlowDecoding(took_ns, age_ns, limit_ns)

    def require(self, age_ns: int | None, limit_ns: int) -> None:
        """Let a result through if it will be in time where it is published.

        Raises:
            LateFrame: it will not, or the clock was set back meanwhile.

        """
        if age_ns is None or not -limit_ns <= age_ns <= limit_ns - reserve_ns(limit_ns):
            raise LateFrame(age_ns, limit_ns)

    def _find_refusal(self, age_ns: int | None, limit_ns: int, predicted_ns: int) -> str:
        """Say why a frame cannot be in time; empty if it can."""
        if age_ns is None:
            return (
                "the node's clock stands at 0; let the player publish /clock or unset use_sim_time"
            )
        limit_ms, age_ms, predicted_ms = limit_ns / 1e6, age_ns / 1e6, predicted_ns / 1e6
        is_implausible = not -limit_ns <= age_ns <= max(limit_ns, IMPLAUSIBLE_NS)
        if is_implausible and not self._counts_from_arrival:  # ahead is as wrong as behind
            side = "ahead of" if age_ns < 0 else "behind"
            return (
                f"its stamp is {abs(age_ns) / 1e9:.3f} s {side} the node's clock; synchronise the "
                "clocks, set use_sim_time for a bag with /clock, or set age_reference to arrival"
            )
        if age_ns > limit_ns:
            return (
                f"it is {age_ms:.1f} ms old when its turn comes, the deadline is {limit_ms:g} ms; "
                "if wait in ~/latency is long the engine is busy, else look before the node"
            )
        if age_ns + predicted_ns > limit_ns - reserve_ns(limit_ns):
            return (
                f"it is {age_ms:.1f} ms old and takes {predicted_ms:.1f} ms more, the deadline is "
                f"{limit_ms:g} ms; take a faster model or raise deadline_ms"
            )
        return ""


def reserve_ns(limit_ns: int) -> int:
    """Return the part of a deadline that is kept back for publishing."""
    return min(int(RESERVE * limit_ns), LONGEST_RESERVE_NS)


class AgeSummary(NamedTuple):
    """Percentiles of ages, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class AgeHistogram(NamedTuple):
    """How many ages are in each bin; the first bin begins at 0.

    Attributes:
        bin_ms: width of a bin.
        counts: one number per bin; negative ages are in the first, what is beyond in the last.

    """

    bin_ms: float
    counts: list[int]


class AgeWindow:
    """Ages of the last 512 published results. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._ages_ns = np.zeros(AGES, np.int64)
        self._count = 0

    def add(self, age_ns: int) -> None:
        """Note one age."""
        self._ages_ns[self._count % AGES] = age_ns
        self._count += 1

    def summarize(self) -> AgeSummary | None:
        """Return the percentiles; None before the first result."""
        ages_ns = self._known_ns()
        if not ages_ns.size:
            return None
        p50, p99 = np.percentile(ages_ns, (50, 99))
        return AgeSummary(p50 / 1e6, p99 / 1e6, float(ages_ns.max()) / 1e6)

    def histogram(self, end_ns: int) -> AgeHistogram | None:
        """Return the ages in 50 bins from 0 to ``end_ns``; None before the first result."""
        ages_ns = self._known_ns()
        if not ages_ns.size:
            return None
        # Clipped first: the age of a stamp of another epoch times 50 is beyond an int64.
        bins = np.clip(ages_ns, 0, end_ns - 1) * BINS // end_ns
        return AgeHistogram(end_ns / BINS / 1e6, np.bincount(bins, minlength=BINS).tolist())

    def _known_ns(self) -> NDArray[np.int64]:
        return self._ages_ns[: min(self._count, AGES)]
