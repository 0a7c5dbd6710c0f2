# SPDX-License-Identifier: Apache-2.0
"""What is known of a camera's images: how many came, how often, and what became of each.

The accounting is exact: what came in is what went out, by one way or another.

A subscription keeps the newest image only. Where another one has replaced it before it was taken,
or where it was lost on the way, a number of its publisher is missing; ``Gaps`` counts those.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.errors import LateFrame, StaleFrame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.untyped import Message

OUTCOMES = ("received", "published", "superseded", "stale", "late", "malformed", "failed")
INTERVALS = 10  # of a rate
SECOND_NS = 1_000_000_000
STAMP_END = 12  # of a serialized message with a header: encapsulation, seconds, nanoseconds
STRIPS, STRIP_BYTES = 16, 64
GOLDEN_RATIO = 0.618
# Why the account may not be exact.
UNNUMBERED = "the middleware does not number images"
SEVERAL = "the topic had several publishers at once"
RESTARTED = "a publisher started again"
UNTOLD = "the middleware does not tell lost images from replaced ones"


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


class Gaps:
    """Images of one camera that never came out of the middleware, for the node's whole life.

    Written by several threads.

    Attributes:
        tells_losses: whether the middleware reports images that it has lost.

    """

    def __init__(self) -> None:
        self.tells_losses = True
        self._lock = threading.Lock()
        self._last: int | None = None
        self._publishers = 0
        self._has_matched = False
        self._fresh = 0  # skipped since the middleware was asked last
        self._skipped = self._lost = 0  # of the present publisher
        self._replaced = 0  # of those before
        self._doubts: list[str] = []

    @property
    def replaced(self) -> int:
        """Images that newer ones replaced before they were taken, as far as that is known."""
        with self._lock:
            return self._replaced + max(0, self._skipped + self._fresh - self._lost)

    @property
    def doubt(self) -> str:
        """Why there may have been more of them, in words; empty where the number is exact."""
        with self._lock:
            return ", ".join(self._doubts)

    def begin(self) -> None:
        """Note that there is a new subscription: what came before it does not count."""
        with self._lock:
            self._settle()
            self._publishers, self._has_matched = 0, False

    def follow(self, number: int | None) -> None:
        """Note the number of an image that was taken; None where it has none."""
        with self._lock:
            if number is None:
                self._question(UNNUMBERED)
                return
            if self._last is not None:
                self._compare(self._last, number)
            self._last = number

    def lose(self, images: int) -> None:
        """Note images that were lost on the way: each of them left a gap, or will."""
        with self._lock:
            self._lost += images

    def match(self, publishers: int, newcomers: int) -> None:
        """Note how many publishers are connected, and how many have come since the last time."""
        with self._lock:
            if publishers > 1:
                self._question(SEVERAL)
            if newcomers and (newcomers > 1 or self._has_matched) and publishers <= 1:
                self._question(RESTARTED)
                self._fresh = 0  # between the numbers of two publishers is no gap
                self._settle()
            self._publishers = publishers
            self._has_matched |= newcomers > 0

    def confirm(self) -> None:
        """Note that the middleware was asked: no other publisher has come up to now."""
        with self._lock:
            self._skipped += self._fresh
            self._fresh = 0

    def _compare(self, last: int, number: int) -> None:
        skipped = number - last - 1
        if self._publishers > 1:
            return  # each has numbers of its own
        if skipped < 0:
            self._question(RESTARTED)
            self._settle()
        elif self.tells_losses:
            self._fresh += skipped
        elif skipped:
            self._question(UNTOLD)

    def _settle(self) -> None:
        """Close the account of one publisher."""
        self._replaced += max(0, self._skipped + self._fresh - self._lost)
        self._skipped = self._fresh = self._lost = 0
        self._last = None

    def _question(self, why: str) -> None:
        if why not in self._doubts:
            self._doubts.append(why)


class StreamMonitor:
    """Watches one camera. Written by the threads that are named, read by any.

    Attributes:
        last_ns: steady time of the last image, or of ``begin`` if there was none since.
        has_images: whether there was one since ``begin``.
        rate: images per second.
        identical: images in a row that look like the one before them, by the frame loop.
        unusable: why the last unusable image is that, by the frame loop; empty before the first.
        publishers: publishers of the topic that are connected; None where that is unknown.
        lost: images that the middleware lost on the way.
        incompatible: the QoS policy for which a publisher was refused; empty if none was.

    The last three are noted by the executor's thread.
    """

    def __init__(self) -> None:
        self.last_ns = 0
        self.has_images = False
        self.identical = 0
        self.unusable = ""
        self.publishers: int | None = None
        self.lost = 0
        self.incompatible = ""
        self.rate = RateMeter()
        self._fingerprint: int | None = None
        self._replaced = 0

    def begin(self, now_ns: int) -> None:
        """Note that images are waited for from now on."""
        self.last_ns = now_ns
        self.has_images = False
        self.identical = 0
        self.publishers = None
        self.incompatible = ""
        self.rate = RateMeter()
        self._fingerprint = None

    def arrive(self, now_ns: int, replaced: int, *, is_at_least: bool = False) -> None:
        """Note an image; called by the frame loop.

        Args:
            now_ns: when it arrived, on the steady clock.
            replaced: images that were replaced by newer ones so far.
            is_at_least: whether there may have been more of them.

        """
        self.last_ns = now_ns
        self.has_images = True
        since = max(0, replaced - self._replaced)  # news of losses may come late, and lower it
        self._replaced = max(replaced, self._replaced)
        self.rate.tick(now_ns, 1 + since, is_at_least=is_at_least)

    def look(self, message: Message) -> None:
        """Compare an image with the one before it; called by the frame loop."""
        octets: Message = getattr(message, "data", message)
        fingerprint = _fingerprint(memoryview(octets))
        self.identical = self.identical + 1 if fingerprint == self._fingerprint else 0
        self._fingerprint = fingerprint

    def silent_ns(self, now_ns: int) -> int:
        """Return how long ago the last image came, or waiting began."""
        return max(0, now_ns - self.last_ns)


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
        if len(ticks) <= 1:  # an interval has two ends
            return None
        last_ns, events = ticks[-1][0], sum(events for _, events, _ in ticks[1:])
        mean_ns = (last_ns - ticks[0][0]) / events
        return SECOND_NS / max(mean_ns, now_ns - last_ns, 1)


def _fingerprint(octets: memoryview) -> int:
    """Return a checksum of 1 kB of a message, or of its pixels, spread over all but its stamp."""
    view = octets[STAMP_END:]
    part = len(view) // STRIPS
    checksum = zlib.crc32(view[:STRIP_BYTES])
    for index in range(STRIPS):
        # At another place in each part: a part may be so many whole rows that all strips would
        # lie at the left edge, which a lens can leave black.
        shift = int(index * GOLDEN_RATIO % 1.0 * max(0, part - STRIP_BYTES))
        start = index * part + shift
        checksum = zlib.crc32(view[start : start + STRIP_BYTES], checksum)
    return checksum
