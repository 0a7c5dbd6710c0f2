# SPDX-License-Identifier: Apache-2.0
"""Many durations as one HdrHistogram: exact to 0.1 %, small; two add up without loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

LOWEST_NS, HIGHEST_NS, DIGITS = 1_000, 3_600_000_000_000, 3
NANOSECONDS_PER_MS = 1e6
CONFIDENCE = 0.99


class Summary(NamedTuple):
    """Percentiles of durations, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    mean_ms: float
    count: int  # type: ignore[assignment] # hides tuple.count, which nobody needs here


class Durations:
    """Durations from 1 us to 1 h; shorter and longer ones count as these."""

    def __init__(self, durations_ns: Iterable[int] = ()) -> None:
        """Begin with some durations, in nanoseconds."""
        self._histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
        for duration_ns in durations_ns:
            self.add(duration_ns)

    def __len__(self) -> int:
        """Return how many there are."""
        return int(self._histogram.get_total_count())

    def add(self, duration_ns: int) -> None:
        """Note one, in nanoseconds."""
        self._histogram.record_value(min(max(int(duration_ns), LOWEST_NS), HIGHEST_NS))

    def merge(self, other: Durations) -> None:
        """Add all of ``other``."""
        self._histogram.add(other._histogram)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile in milliseconds; NaN of none."""
        if not len(self):
            return float("nan")
        return float(self._histogram.get_value_at_percentile(percent)) / NANOSECONDS_PER_MS

    def upper_bound_ms(self, percent: float) -> float:
        """Return what a percentile is at most, with 99 % confidence; NaN if there are too few.

        It is the smallest duration with enough others above it that chance does not explain them
        (binomial; the durations count as independent). A 99th percentile needs 459 of them.
        """
        above = most_above(len(self), percent)
        if above is None:
            return float("nan")
        return self.percentile_ms(100.0 * (len(self) - above) / len(self))

    def distribution(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the different durations, ascending, in milliseconds, and how often each came."""
        counts = np.frombuffer(self._histogram.counts, np.uint64).astype(np.int64)
        places = np.flatnonzero(counts)
        find = self._histogram.get_value_from_index
        lowest_ns = np.array([find(int(place)) for place in places], np.float64)
        highest_ns = np.array([find(int(place) + 1) for place in places], np.float64)
        return (lowest_ns + highest_ns) / 2 / NANOSECONDS_PER_MS, counts[places]

    def summarize(self) -> Summary:
        """Return the percentiles; NaN of none."""
        values_ms, counts = self.distribution()
        return Summary(
            p50_ms=self.percentile_ms(50),
            p90_ms=self.percentile_ms(90),
            p99_ms=self.percentile_ms(99),
            p999_ms=self.percentile_ms(99.9),
            max_ms=self.percentile_ms(100),
            mean_ms=float(np.average(values_ms, weights=counts)) if len(self) else float("nan"),
            count=len(self),
        )

    def encode(self) -> str:
        """Return the histogram as text, in the format of all HdrHistograms (V2, base64)."""
        return bytes(self._histogram.encode()).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Durations:
        """Read what ``encode`` wrote.

        Raises:
            ConfigError: it is something else.

        """
        durations = cls()
        try:
            durations._histogram.decode_and_add(text)
        except Exception as error:  # zlib, base64 and the library each raise their own
            msg = f"not an HdrHistogram: {error}"
            raise ConfigError(msg) from error
        return durations


def most_above(count: int, percent: float) -> int | None:
    """Return how many of ``count`` may lie above a bound of a percentile, with 99 % confidence.

    None if there are too few for any. Seen from above, the bound is the next one: of 1000
    durations 2 may lie above the bound of the 99th percentile, so it is the third largest.
    """
    share = 1.0 - percent / 100.0
    odds = share / (1.0 - share)
    log_probability = count * math.log1p(-share)  # of none above the true percentile
    total, above = math.exp(log_probability), 0
    if total > 1.0 - CONFIDENCE:
        return None
    while True:
        log_probability += math.log((count - above) / (above + 1) * odds)
        total += math.exp(log_probability)
        if total > 1.0 - CONFIDENCE:
            return above
        above += 1
