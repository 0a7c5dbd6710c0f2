# SPDX-License-Identifier: Apache-2.0
"""A benchmark on the terminal: how far it is, and what it has found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from perception_node.bench.reporting.compare import find_main_stage
from perception_node.bench.reporting.facts import list_facts
from perception_node.bench.reporting.rich_tables import new_table, print_whole, to_rich
from perception_node.bench.reporting.tables import (
    BOUND_NOTE,
    NONE,
    describe_ms,
    list_sections,
    list_warnings,
    percentile_text,
)
from perception_node.printable import printable
from perception_node.terminal.progress import Redrawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from perception_node.bench.reporting.compare import Difference
    from perception_node.bench.reporting.measurement import Report, Run


class Progress(NamedTuple):
    """A run that goes on.

    Attributes:
        sent: frames that were published so far, warm-up excluded.
        answered: those with a result so far.
        missed: those that got none within the deadline.
        rate_hz: results per second, lately; NaN before there are any.
        p99_ms: 99th percentile of the latest ages; NaN before there are any.
        seconds_left: until the run is over.
        total: frames that the run will send, warm-up excluded.

    """

    sent: int
    answered: int
    missed: int
    rate_hz: float
    p99_ms: float
    seconds_left: float
    total: int


BAR_WIDTH = 30
COLUMNS = ("run", "p50", "p90", "p99", "max", "answered", "missed")


class LiveTable(Redrawn):
    """Finished runs and the one that goes on: redrawn on a terminal, a line per run elsewhere.

    ::

        with LiveTable(console, runs=9) as table:
            table.begin("node, 640x480 bgr8 raw at 30 Hz", "naive")
            table.update(progress)  # as often as one likes
            table.end(run)
    """

    def __init__(self, console: Console, runs: int) -> None:
        """Prepare; ``runs`` is how many there will be in all."""
        super().__init__(console)
        self._runs = runs
        self._case, self._subject, self._number = "", "", 0
        self._progress: Progress | None = None
        self._rows: list[tuple[str, tuple[str, ...]]] = []

    def begin(self, case: str, subject: str) -> None:
        """Say which run starts now."""
        self._case, self._subject = case, subject
        self._number += 1
        self._progress = None

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        self._progress = progress

    def end(self, run: Run) -> None:
        """Show what it has found."""
        cells = _describe_run(run)
        self._rows.append((self._case, (f"{self._number}. {run.subject}", *cells)))
        self._progress = None
        if not self.console.is_terminal:
            pairs = zip(COLUMNS[1:], cells, strict=True)
            found = ", ".join(f"{name} {cell}" for name, cell in pairs if cell != NONE)
            place = f"run {self._number} of {self._runs}: {self._case}, {run.subject}: "
            self.console.print(escape(place + found))
            for remark in run.remarks:
                self.console.print(f"  {escape(remark)}")

    def render(self) -> RenderableType:
        """Return the table, and below it the run that goes on."""
        table = Table(title=Text(printable(f"{self._case}, ms")), title_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name == "run" else "right")
        for case, cells in self._rows:
            if case == self._case:
                table.add_row(*(Text(printable(cell)) for cell in cells))
        return Group(table, self._render_progress())

    def _render_progress(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        name = Text(f"run {self._number} of {self._runs}: {self._subject}", style="bold")
        now = self._progress
        if now is None:
            grid.add_row(name, Text("starts"))
            return grid
        rate = NONE if math.isnan(now.rate_hz) else f"{now.rate_hz:.1f}"
        words = (
            f"{now.sent}/{now.total} sent  {now.answered} answered  {now.missed} missed  "
            f"{rate} Hz  p99 {describe_ms(now.p99_ms)} ms  {max(0.0, now.seconds_left):.0f} s left"
        )
        bar = ProgressBar(total=max(1, now.total), completed=now.sent, width=BAR_WIDTH)
        grid.add_row(name, bar)
        return Group(grid, Text(words, style="red" if now.missed else ""))


def print_report(console: Console, report: Report) -> None:
    """Print all that the Markdown says; warnings first, in yellow."""
    for warning in list_warnings(report):
        console.print(f"[yellow]warning:[/] {escape(warning)}")
    for name, text in list_facts(report):
        console.print(f"[dim]{name:<9}[/]{escape(text)}")
    for section in list_sections(report):
        console.print(f"\n[bold]{escape(section.title)}[/]")
        for remark in section.remarks:
            line = f"[yellow]not to be trusted:[/] {escape(remark)}"
            console.print(line)
        for table in section.tables:
            print_whole(console, to_rich(table))
    console.print(f"[dim]{BOUND_NOTE}[/]")


def print_differences(
    console: Console, differences: Sequence[Difference], caveats: Sequence[str]
) -> None:
    """Print a comparison; regressions are bold and red, and say so in words."""
    for caveat in caveats:
        console.print(f"[yellow]note:[/] {escape(caveat)}")
    for case in dict.fromkeys(difference.case for difference in differences):
        headers = ("subject", "figure", "before", "after", "change", "95 % interval", "")
        table = new_table(case, "bold")
        for name in headers:
            is_number = name in headers[2:6]
            table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
        for difference in differences:
            if difference.case == case:
                style = "bold red" if difference.is_regression else ""
                cells = map(printable, _describe_difference(difference))
                table.add_row(*map(Text, cells), style=style)
        print_whole(console, table)


def _describe_difference(difference: Difference) -> tuple[str, ...]:
    is_share = difference.figure.endswith("%")
    values = (difference.before, difference.after)
    shown = [f"{100 * value:.2f}" if is_share else describe_ms(value) for value in values]
    limits = f"{difference.low:+.1%} to {difference.high:+.1%}"
    return (
        difference.subject,
        difference.figure,
        *shown,
        f"{difference.change:+.1%}",
        NONE if math.isnan(difference.low) else limits,
        difference.verdict,
    )


def _describe_run(run: Run) -> tuple[str, ...]:
    stage = find_main_stage([run])
    times = [NONE] * 4
    if stage is not None:
        times = [percentile_text(run.stages[stage], percent) for percent in (50, 90, 99, 100)]
    counts = [str(run.counts.get(name, NONE)) for name in ("answered", "missed")]
    return (*times, *counts)
