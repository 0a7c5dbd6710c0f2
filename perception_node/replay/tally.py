# SPDX-License-Identifier: Apache-2.0
"""Whether a replay had any image at all, and any that was classified; else it shows nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perception_node.replay.golden import Record
    from perception_node.wire.bags import Bag


def find_empty(bag: Bag, topics: dict[str, str], wanted: list[str] | None) -> str:
    """Return which topics have no images: any of the ``wanted`` ones, or all; else nothing."""
    empty = [topic for topic in topics if bag.count([topic]) == 0]
    if not empty or (not wanted and len(empty) < len(topics)):
        return ""
    return f"it holds no image of {', '.join(empty)}"


class Tally:
    """Counts the records of a replay, and those that were dropped by their reason."""

    def __init__(self) -> None:
        """Begin with none."""
        self._frames = 0
        self._dropped: Counter[str] = Counter()
        self._first = ""

    def count(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on."""
        for record in records:
            self._frames += 1
            if "dropped" in record:
                self._dropped[record["dropped"]] += 1
                self._first = self._first or str(record["why"])
            yield record

    @property
    def problem(self) -> str:
        """Why the replay shows nothing; empty if one frame was classified."""
        if self._frames == 0:
            return "no image was read"
        if self._dropped.total() < self._frames:
            return ""
        reasons = ", ".join(f"{number} {kind}" for kind, number in self._dropped.most_common())
        return f"every image was dropped: {reasons}; the first: {self._first}"
