# SPDX-License-Identifier: Apache-2.0
"""What is known of a camera's stream: does it come, how often, does the picture change."""

from __future__ import annotations

import zlib
from typing import Any

from perception_node.flow.rate import RateMeter

STAMP_END = 12  # of a serialized message with a header: encapsulation, seconds, nanoseconds
STRIPS, STRIP_BYTES = 16, 64
GOLDEN_RATIO = 0.618


class StreamMonitor:
    """Watches one camera. Written by the threads that are named, read by any.

    Attributes:
        last_ns: steady time of the last image, or of ``begin`` if there was none since.
        has_images: whether there was one since ``begin``.
        identical: images in a row that look like the one before them, by the frame loop.
        publishers: publishers of the topic that are connected; None where that is unknown.
        lost: images that the middleware lost on the way.
        incompatible: the QoS policy for which a publisher was refused; empty if none was.

    The last three are noted by the executor's thread.
    """

    def __init__(self) -> None:
        self.last_ns = 0
        self.has_images = False
        self.identical = 0
        self.publishers: int | None = None
        self.lost = 0
        self.incompatible = ""
        self._rate = RateMeter()
        self._fingerprint: int | None = None
        self._replaced = 0

    def begin(self, now_ns: int) -> None:
        """Note that images are waited for from now on."""
        self.last_ns = now_ns
        self.has_images = False
        self.identical = 0
        self.publishers = None
        self.incompatible = ""
        self._rate = RateMeter()
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
        self._rate.tick(now_ns, 1 + since, is_at_least=is_at_least)

    def look(self, message: Any) -> None:  # noqa: ANN401 - bytes, or an image message
        """Compare an image with the one before it; called by the frame loop."""
        fingerprint = _fingerprint(getattr(message, "data", message))
        self.identical = self.identical + 1 if fingerprint == self._fingerprint else 0
        self._fingerprint = fingerprint

    def silent_ns(self, now_ns: int) -> int:
        """Return how long ago the last image came, or waiting began."""
        return max(0, now_ns - self.last_ns)

    def rate_hz(self, now_ns: int) -> float | None:
        """Return images per second; None before the second."""
        return self._rate.rate_hz(now_ns)

    @property
    def is_rate_at_least(self) -> bool:
        """Whether there may be more images per second than ``rate_hz`` says."""
        return self._rate.is_at_least


def _fingerprint(octets: Any) -> int:  # noqa: ANN401 - whatever has a buffer
    """Return a checksum of 1 kB of a message, or of its pixels, spread over all but its stamp."""
    view = memoryview(octets)[STAMP_END:]
    part = len(view) // STRIPS
    checksum = zlib.crc32(view[:STRIP_BYTES])
    for index in range(STRIPS):
        # At another place in each part: a part may be so many whole rows that all strips would
        # lie at the left edge, which a lens can leave black.
        shift = int(index * GOLDEN_RATIO % 1.0 * max(0, part - STRIP_BYTES))
        start = index * part + shift
        checksum = zlib.crc32(view[start : start + STRIP_BYTES], checksum)
    return checksum
