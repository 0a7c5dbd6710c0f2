# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: a table that grows, a summary, a verdict per photo."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table

from perception_node.printable import printable
from perception_node.terminal.progress import Redrawn

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from perception_node.rehearsal.bag_rehearsal import Rehearsal
    from perception_node.rehearsal.heard import Result

NEEDED_SHARE = 0.95
ROWS_SHOWN = 14
DROPS = ("superseded", "stale", "late", "malformed", "failed")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of the sample bag and the labels that are right for it.

    Attributes:
        name: what the photo shows.
        first_stamp_ns: stamp of its first frame.
        last_stamp_ns: stamp of its last frame.
        accepted: names of classes that are right.

    """

    name: str
    first_stamp_ns: int
    last_stamp_ns: int
    accepted: frozenset[str]

    def shows(self, stamp_ns: int) -> bool:
        """Return whether the frame with this stamp shows the photo."""
        return self.first_stamp_ns <= stamp_ns <= self.last_stamp_ns


@dataclass(frozen=True, slots=True)
class PhotoScore:
    """How many of a photo's frames were sent, and how many got an accepted label."""

    photo: Photo
    sent: int
    right: int

    @property
    def is_good(self) -> bool:
        """Whether enough frames got an accepted label; frames that got no answer did not."""
        return self.sent > 0 and self.right >= NEEDED_SHARE * self.sent


def read_photos(path: Path) -> list[Photo]:
    """Read the photos of the sample bag from its ``expected.json``."""
    return [
        Photo(
            entry["photo"],
            entry["first_stamp_ns"],
            entry["last_stamp_ns"],
            frozenset(entry["accepted"]),
        )
        for entry in json.loads(path.read_bytes())
    ]


def judge(photos: list[Photo], rehearsal: Rehearsal) -> list[PhotoScore]:
    """Count for each photo the frames that were sent and those that got an accepted label."""
    return [
        PhotoScore(
            photo,
            sent=sum(photo.shows(stamp_ns) for stamp_ns in rehearsal.sent_ns),
            right=sum(
                photo.shows(stamp_ns) and result.label in photo.accepted
                for stamp_ns, result in rehearsal.results.items()
            ),
        )
        for photo in photos
    ]


def is_good(photos: list[Photo], rehearsal: Rehearsal) -> bool:
    """Return whether every photo passed."""
    return all(verdict.is_good for verdict in judge(photos, rehearsal))


class ResultTable(Redrawn):
    """The last results: redrawn in place on a terminal, one line each elsewhere."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._rows: deque[tuple[str, str, str, str]] = deque(maxlen=ROWS_SHOWN)
        self._first_ns: int | None = None

    def leave(self) -> None:
        """Leave the last rows on the terminal."""
        if self.console.is_terminal:
            self.console.print(self.render())

    def add(self, result: Result, age_ms: float) -> None:
        """Show one result."""
        self._first_ns = result.received_ns if self._first_ns is None else self._first_ns
        time_s = (result.received_ns - self._first_ns) / 1e9
        label = escape(printable(result.label or "-"))
        row = (f"{time_s:.2f}", label, f"{result.score:.1%}", f"{age_ms:.1f}")
        self._rows.append(row)
        if not self.console.is_terminal:
            self.console.print("{:>6} s  {:<24} {:>6}  {:>6} ms".format(*row))

    def render(self) -> Table:
        """Return the table."""
        table = Table("time (s)", "label", "score", "age (ms)", title="~/classification")
        for column, width in zip(table.columns, (8, 28, 7, 8), strict=True):
            column.min_width = width
            column.justify = "left" if column.header == "label" else "right"
        for row in self._rows:
            table.add_row(*row)
        return table


def print_summary(console: Console, photos: list[Photo], rehearsal: Rehearsal) -> None:
    """Print what runs, where the frames went, how old the results were, and the verdicts."""
    say = rehearsal.diagnostics.get
    drops = ", ".join(f"{reason} {say(reason, '?')}" for reason in DROPS)
    ages = list(rehearsal.ages_ms.values()) or [float("nan")]
    p50, p99, largest = np.percentile(ages, (50, 99, 100))
    lines = {
        "engine": say("engine", "unknown"),
        "frames": f"{len(rehearsal.sent_ns)} sent, {say('received', '?')} received, "
        f"{say('published', '?')} published, dropped: {drops}",
        "age": f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {largest:.1f} ms "
        "(publish call to result received, two processes)",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:>7}[/]  {escape(text)}")
    for verdict in judge(photos, rehearsal):
        color, word = ("green", "good") if verdict.is_good else ("red", "BAD")
        console.print(
            f"[{color}]{word:>7}[/]  {escape(verdict.photo.name)}: {verdict.right} of "
            f"{verdict.sent} frames are {escape(' / '.join(sorted(verdict.photo.accepted)))}"
        )
