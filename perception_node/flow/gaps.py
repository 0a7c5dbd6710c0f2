# SPDX-License-Identifier: Apache-2.0
"""Images that never came out of the middleware, by the gaps in their publisher's numbers.

A subscription keeps the newest image only. Where another one has replaced it before it was taken,
or where it was lost on the way, a number is missing; the middleware says how many were lost.
"""

from __future__ import annotations

import threading

UNNUMBERED = "the middleware does not number images"
SEVERAL = "the topic had several publishers at once"
RESTARTED = "a publisher started again"
UNTOLD = "the middleware does not tell lost images from replaced ones"


class Gaps:
    """Follows one camera, for the node's whole life. Written by several threads.

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
            if newcomers and (newcomers > 1 or self._has_matched) and publishers < 2:  # noqa: PLR2004
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
