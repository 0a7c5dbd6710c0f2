# SPDX-License-Identifier: Apache-2.0
"""A replay judged by its golden file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perception_node.printable import printable
from perception_node.replay.golden import compare

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.replay.golden import Difference, Record
    from perception_node.replay.tolerance import Tolerance

MAX_LINES = 20


class Verdict(NamedTuple):
    """What was found, and the frames of it that are not as expected.

    Attributes:
        golden: the golden file.
        tolerance: what counts as the same.
        expected: its records.
        found: the replay's records.
        differences: the frames that differ.

    """

    golden: Path
    tolerance: Tolerance
    expected: list[Record]
    found: list[Record]
    differences: list[Difference]

    @property
    def frames(self) -> int:
        """How many frames were looked at: those of the longer of the two."""
        return max(len(self.expected), len(self.found))

    def lines(self) -> list[str]:
        """Return the first differences, a printable line each, and a line that sums up."""
        frames = len(self.found)
        if not self.differences:
            return [printable(f"{frames} frames as in {self.golden}")]
        lines = [str(difference) for difference in self.differences[:MAX_LINES]]
        lines.append(f"{len(self.differences)} of {frames} frames differ from {self.golden}")
        return list(map(printable, lines))

    def __str__(self) -> str:
        """Return all lines."""
        return "".join(f"{line}\n" for line in self.lines())


def judge(
    golden: Path, expected: list[Record], found: list[Record], tolerance: Tolerance
) -> Verdict:
    """Compare all frames with the records of a golden file."""
    differences = list(compare(expected, found, tolerance))
    return Verdict(golden, tolerance, expected, found, differences)
