# SPDX-License-Identifier: Apache-2.0
"""Frames of a run of the node level, what became of them, and what they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.bench.levels.frame_records import SentRecord, read_latency
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import (
    END_TO_END,
    FROM_SCHEDULE,
    INFER,
    OVERHEAD,
    OWN_CODE,
    Timeline,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLISH_CALL, TRANSPORT, WAIT = "publish call", "transport", "wait"
DROPPED = ("stale", "late", "failed")  # outcomes that are counts; each other kind is malformed


@dataclass(slots=True)
class PlayedFrame:
    """A frame that was sent, and what became of it; ``received_ns`` is 0 as long as nothing did.

    Attributes:
        sent: what the camera says.
        received_ns: when its result came.
        latency: the node's message of ~/latency, as it came; empty if there is none.

    """

    sent: SentRecord
    received_ns: int = 0
    latency: bytes = b""

    @property
    def age_ns(self) -> int:
        """From the publish call to the result."""
        return self.received_ns - self.sent.call_ns

    def is_missed(self, deadline_ns: int) -> bool:
        """Return whether its result came too late, or not at all."""
        return not 0 < self.received_ns <= self.sent.call_ns + deadline_ns

    def stages_ns(self) -> dict[str, int]:
        """Return all durations of a frame that was answered.

        The node's own stages are missing if it does not state them. ``transport`` is what is left
        of the way when they are taken off, image and result together; the end of the node's
        publish call, when the result is on its way already, counts as the node's.
        """
        sent = self.sent
        whole = {
            END_TO_END: self.age_ns,
            FROM_SCHEDULE: self.received_ns - sent.due_ns,
            PUBLISH_CALL: sent.return_ns - sent.call_ns,
        }
        if not self.latency:
            return whole
        own = read_latency(self.latency).stages_ns
        inside_ns = sum(own.values())
        return {
            **whole,
            **own,
            OWN_CODE: inside_ns - own[WAIT] - own[INFER],
            OVERHEAD: self.age_ns - own[INFER],
            TRANSPORT: self.age_ns - inside_ns,
        }


def collect_stages(frames: Iterable[PlayedFrame]) -> dict[str, Durations]:
    """Return the durations of each stage of the frames that were answered."""
    stages: dict[str, Durations] = {}
    for frame in frames:
        if frame.received_ns:
            for name, duration_ns in frame.stages_ns().items():
                stages.setdefault(name, Durations()).add(duration_ns)
    return stages


def count_frames(frames: Iterable[PlayedFrame], deadline_ns: int) -> dict[str, int]:
    """Count what was sent, answered and missed."""
    counts = {"sent": 0, "answered": 0, "missed": 0}
    for frame in frames:
        counts["sent"] += 1
        counts["answered"] += frame.received_ns > 0
        counts["missed"] += frame.is_missed(deadline_ns)
    return counts


def count_dropped(frames: Iterable[PlayedFrame], lost: int) -> dict[str, int]:
    """Count the ways of the frames that a node did not answer; these and ``answered`` are all.

    Args:
        frames: the frames.
        lost: how many the node says never reached it.

    Returns:
        stale, late, malformed and failed as ~/latency states them; ``lost``, on the way to the
        node or back; superseded, which is the rest.

    """
    counts = dict.fromkeys(("superseded", "stale", "late", "malformed", "failed", "lost"), 0)
    for frame in frames:
        if not frame.received_ns:
            counts[_name_loss(frame.latency)] += 1
    lost = min(lost, counts["superseded"])
    counts["superseded"] -= lost
    counts["lost"] += lost
    return counts


def _name_loss(latency: bytes) -> str:
    if not latency:
        return "superseded"
    outcome = read_latency(latency).outcome
    if outcome == "published":
        return "lost"
    return outcome if outcome in DROPPED else "malformed"


def make_timeline(frames: list[PlayedFrame]) -> Timeline:
    """Return when each frame was due and how old its result was."""
    first_ns = frames[0].sent.due_ns if frames else 0
    return Timeline(
        [(frame.sent.due_ns - first_ns) / 1e9 for frame in frames],
        [frame.age_ns / 1e6 if frame.received_ns else math.nan for frame in frames],
    )
