# SPDX-License-Identifier: Apache-2.0
"""Which camera is next: the earliest deadline first, and no camera starved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class EarliestDeadlineFirst:
    """Chooses among cameras that have a frame waiting.

    Earliest deadline first alone starves a camera with a long deadline under overload, because its
    waiting frame is replaced by newer ones. So a camera that was passed over as often as there
    are cameras is next: of ``n`` cameras that always have a frame, each gets at least one
    inference in ``2 n``.
    """

    def __init__(self, cameras: int) -> None:
        self._passed_over = [0] * cameras

    def choose(self, time_left_ns: Mapping[int, float]) -> int:
        """Return the next camera, given the time that each waiting frame has left."""
        longest = max(time_left_ns, key=self._passed_over.__getitem__)
        if self._passed_over[longest] >= len(self._passed_over):
            return longest
        return min(time_left_ns, key=time_left_ns.__getitem__)

    def note_inference(self, camera: int, waiting: Iterable[int]) -> None:
        """Note that a frame of ``camera`` is classified while those of ``waiting`` wait."""
        for other in waiting:
            self._passed_over[other] += 1
        self._passed_over[camera] = 0
