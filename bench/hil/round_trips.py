# SPDX-License-Identifier: Apache-2.0
"""Which answer belongs to which frame, and how long it took, for those who show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault
from perception_node.bench.reporting.durations import Durations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.bench.camera.fault_schedule import Interval
    from perception_node.bench.hil.recorder import HilRecord

NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True)
class RoundTrips:
    """What became of each sent frame, in the order of sending; all arrays are (frames,).

    Attributes:
        sent_s: float64, when it was sent, since the camera began.
        latency_ms: float64, from the publish call to the answer; NaN where none came.
        is_good: bool, nothing was wrong with the frame.

    """

    sent_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    is_good: NDArray[np.bool_]

    @property
    def is_answered(self) -> NDArray[np.bool_]:
        """Which frames got an answer."""
        return ~np.isnan(self.latency_ms)

    def wait_s(self, since_s: float) -> float:
        """Return how long after a moment the first answer came to a good frame sent since then.

        Infinite if there is none.
        """
        chosen = self.is_good & self.is_answered & (self.sent_s >= since_s)
        received_s = (self.sent_s + self.latency_ms / 1e3)[chosen]
        return float(received_s.min()) - since_s if received_s.size else math.inf

    def durations(self, chosen: NDArray[np.bool_]) -> Durations:
        """Return how long the answers to the chosen frames took."""
        answered_ms = self.latency_ms[chosen & self.is_answered]
        return Durations(int(ms * NANOSECONDS_PER_MS) for ms in answered_ms)


class FaultEffect(NamedTuple):
    """What one fault did.

    Attributes:
        fault: its word.
        begin_s: when it began, since the camera did.
        end_s: when it ended.
        sent: frames that were sent with it.
        answered: those of them that were answered.
        recovery_s: from its end to the next answer to a good frame; infinite if none came.

    """

    fault: str
    begin_s: float
    end_s: float
    sent: int
    answered: int
    recovery_s: float


def join(record: HilRecord) -> RoundTrips:
    """Find the first answer to each frame, by its stamp."""
    received_ns: dict[int, int] = {}
    for answer in record.answers:
        received_ns.setdefault(answer.stamp_ns, answer.received_ns)
    sent_ns = np.array([frame.sent_ns for frame in record.sent], np.int64)
    ends = (received_ns.get(frame.stamp_ns) for frame in record.sent)
    latency_ms = [
        float("nan") if end_ns is None else (end_ns - frame.sent_ns) / NANOSECONDS_PER_MS
        for frame, end_ns in zip(record.sent, ends, strict=True)
    ]
    return RoundTrips(
        sent_s=(sent_ns - record.begin_ns) / SECOND_NS,
        latency_ms=np.array(latency_ms, np.float64),
        is_good=np.array([frame.fault is Fault.OK for frame in record.sent], np.bool_),
    )


def find_remarks(record: HilRecord) -> list[str]:
    """Return what a reader must know of how the run went, one line each."""
    remarks = []
    if record.skipped:
        remarks.append(
            f"{record.skipped} frame(s) were not sent, because this host was too late for them"
        )
    if record.held_back:
        remarks.append(
            f"{len(record.held_back)} frame(s) were not sent, because the network did not take "
            "the one before in time; they count as not answered"
        )
    if record.unexpected_ends:
        remarks.append(f"the node ended {record.unexpected_ends} time(s) by itself; see its log")
    return remarks


def find_effects(record: HilRecord, trips: RoundTrips) -> list[FaultEffect]:
    """Say for each fault how many of its frames were answered, and when all was well again."""
    return [
        _find_effect(interval, record.begin_ns, trips)
        for interval in record.faults
        if interval.begin_ns < record.end_ns
    ]


def _find_effect(interval: Interval, origin_ns: int, trips: RoundTrips) -> FaultEffect:
    begin_s, end_s = (
        (time_ns - origin_ns) / SECOND_NS for time_ns in (interval.begin_ns, interval.end_ns)
    )
    spoilt = ~trips.is_good & (trips.sent_s >= begin_s) & (trips.sent_s < end_s)
    sent, answered = np.count_nonzero(spoilt), np.count_nonzero(spoilt & trips.is_answered)
    recovery_s = trips.wait_s(end_s)
    return FaultEffect(str(interval.fault), begin_s, end_s, int(sent), int(answered), recovery_s)
