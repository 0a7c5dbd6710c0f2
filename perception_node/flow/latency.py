# SPDX-License-Identifier: Apache-2.0
"""Where a frame's time went, and how old the last results were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = 512
BINS = 50  # of a histogram


@dataclass(slots=True)
class FrameTrace:
    """One frame's way through the node; durations in nanoseconds, 0 for stages not reached.

    Attributes:
        stamp_ns: the image's stamp.
        frame_id: the image's coordinate frame.
        outcome: published, stale, late, the kind of a frame error, or failed.
        wait_ns: from its arrival in the middleware until it was taken.
        read_ns: reading the message, decoding a compressed image.
        preprocess_ns: pixels to the model's input.
        infer_ns: the engine.
        postprocess_ns: the model's output to hypotheses.
        publish_ns: making and sending the message.
        age_ns: age of the image when its outcome was decided; None if unknown.

    """

    stamp_ns: int = 0
    frame_id: str = ""
    outcome: str = ""
    wait_ns: int = 0
    read_ns: int = 0
    preprocess_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0
    publish_ns: int = 0
    age_ns: int | None = None


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
        self._ages_ns = np.zeros(WINDOW, np.int64)
        self._count = 0

    def add(self, age_ns: int) -> None:
        """Note one age."""
        self._ages_ns[self._count % WINDOW] = age_ns
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
        return self._ages_ns[: min(self._count, WINDOW)]
