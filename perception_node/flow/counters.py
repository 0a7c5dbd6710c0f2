# SPDX-License-Identifier: Apache-2.0
"""Exact accounting of frames: what came in is what went out, by one way or another."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.errors import LateFrame, StaleFrame
from perception_node.flow.gaps import Gaps

if TYPE_CHECKING:
    from collections.abc import Iterable


OUTCOMES = ("received", "published", "superseded", "stale", "late", "malformed", "failed")


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """A consistent snapshot of the counters.

    ::

        received == published + superseded + stale + late + malformed + failed + in_flight

    Attributes:
        received: images that were taken from the middleware, and those that newer ones replaced
            there.
        published: frames whose classification was published.
        superseded: images that newer ones replaced in the middleware, which were never copied,
            and those that ``max_rate_hz`` kept out.
        stale: frames dropped before inference, because their result would have been too old.
        late: frames dropped after inference, because their result was too old.
        malformed: frames lost to a ``FrameError``.
        failed: frames lost to an engine error or a bug.
        in_flight: frames being worked on.
        malformed_by_kind: ``malformed``, split by ``FrameError.kind``.
        replaced: the part of ``superseded`` that was replaced in the middleware.
        doubt: why there may have been more of those, and so more ``received`` and
            ``superseded``; empty where all is exact.

    """

    received: int = 0
    published: int = 0
    superseded: int = 0
    stale: int = 0
    late: int = 0
    malformed: int = 0
    failed: int = 0
    malformed_by_kind: dict[str, int] = field(default_factory=dict)
    replaced: int = 0
    doubt: str = ""

    @property
    def in_flight(self) -> int:
        """Frames that are neither published nor dropped yet."""
        dropped = self.superseded + self.stale + self.late + self.malformed + self.failed
        return self.received - self.published - dropped

    def __str__(self) -> str:
        """Return the account as one line for a log."""
        kinds = "".join(f", {kind} {n}" for kind, n in sorted(self.malformed_by_kind.items()))
        return (
            f"received {self.received} = published {self.published} "
            f"+ superseded {self.superseded} + stale {self.stale} + late {self.late} "
            f"+ malformed {self.malformed}"
            f"{f' ({kinds[2:]})' if kinds else ''} "
            f"+ failed {self.failed} + in flight {self.in_flight}"
            f"{self.doubt and f'; received and superseded are at least these: {self.doubt}'}"
        )


def add_up(counts: Iterable[FrameCounts]) -> FrameCounts:
    """Return the account of all cameras together."""
    sums: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    doubts: dict[str, None] = {}
    for one in counts:
        sums.update({name: getattr(one, name) for name in (*OUTCOMES, "replaced")})
        kinds.update(one.malformed_by_kind)
        doubts.update({one.doubt: None} if one.doubt else {})
    return FrameCounts(**sums, malformed_by_kind=dict(kinds), doubt=", ".join(doubts))


class FrameCounters:
    """Counts frames from several threads.

    Attributes:
        gaps: knows of the images that were never taken.

    """

    def __init__(self) -> None:
        self.gaps = Gaps()
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def receive(self) -> None:
        """Count an image that was taken."""
        self._add("received")

    def publish(self) -> None:
        """Count a published classification."""
        self._add("published")

    def keep_out(self) -> None:
        """Count an image that was taken but came too soon after another."""
        self._add("superseded")

    def fail(self) -> None:
        """Count a frame lost to an engine error or a bug."""
        self._add("failed")

    def drop(self, kind: str) -> None:
        """Count a frame lost to a ``FrameError`` of this kind: stale, late, or malformed."""
        with self._lock:
            if kind in {StaleFrame.kind, LateFrame.kind}:
                self._outcomes[kind] += 1
            else:
                self._outcomes["malformed"] += 1
                self._kinds[kind] += 1

    def snapshot(self) -> FrameCounts:
        """Return all counters as they were at one moment."""
        replaced, doubt = self.gaps.replaced, self.gaps.doubt
        with self._lock:
            outcomes = self._outcomes + Counter(received=replaced, superseded=replaced)
            kinds = dict(self._kinds)
        return FrameCounts(**outcomes, malformed_by_kind=kinds, replaced=replaced, doubt=doubt)

    def _add(self, outcome: str) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
