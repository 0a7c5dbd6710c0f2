# SPDX-License-Identifier: Apache-2.0
"""What goes on right now: redrawn in place on a terminal, a line every five seconds elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault
from perception_node.bench.hil.calm import deadline_ms
from perception_node.printable import printable
from perception_node.terminal.progress import Redrawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario

LINE_PERIOD_S = 5.0
RECENT_NS = 5 * SECOND_NS
WIDTH = 44  # so that it does not change with every number
ALARM_LEVELS = ("WARN", "ERROR")


class Tally:
    """Counts over a record that grows; looks at each entry once, however long the run is.

    Attributes:
        sent: frames so far.
        answered: frames that were answered.
        missed: frames whose answer came after the deadline, or has not come by then.
        now_ns: the moment of the last look.
        fault: what was wrong with the camera then.
        state: of the device.
        alarms: rows of /diagnostics that are not well, and their levels.

    """

    def __init__(self, limit_ms: float) -> None:
        """Count what misses a deadline, in milliseconds."""
        self.sent = self.answered = self.missed = self.now_ns = 0
        self.fault, self.state = Fault.OK, "unknown"
        self.alarms: dict[str, str] = {}
        self._deadline_ns = int(limit_ms * 1e6)
        self._sent_seen = self._answers_seen = self._diagnostics_seen = 0
        self._open: dict[int, int] = {}  # stamps to when they were sent, in that order
        self._late: set[int] = set()  # stamps that were counted as missed already
        self._recent: deque[tuple[int, int]] = deque()  # received, latency

    def update(self, record: HilRecord, now_ns: int) -> None:
        """Take what is new in the record; ``now_ns`` is on its clock."""
        self.now_ns, self.fault = now_ns, _find_fault(record, now_ns)
        answers = record.answers[self._answers_seen :]  # before their frames: none is unknown
        for frame in record.sent[self._sent_seen :]:
            self._sent_seen += 1
            self._open[frame.stamp_ns] = frame.sent_ns
        for answer in answers:
            self._answers_seen += 1
            self._take_answer(answer.stamp_ns, answer.received_ns)
        for change in record.diagnostics[self._diagnostics_seen :]:
            self._diagnostics_seen += 1
            self.alarms.pop(change.row, None)
            if change.level in ALARM_LEVELS:
                self.alarms[change.row] = change.level
        self.sent = self._sent_seen
        self.state = record.states[-1].state if record.states else self.state
        self._find_missed()
        while self._recent and self._recent[0][0] < self.now_ns - RECENT_NS:
            self._recent.popleft()

    def percentiles_ms(self) -> tuple[float, float]:
        """Return median and 99th percentile of the last five seconds; NaN of no answers."""
        if not self._recent:
            return float("nan"), float("nan")
        latencies_ms = [latency_ns / 1e6 for _, latency_ns in self._recent]
        p50_ms, p99_ms = np.percentile(latencies_ms, (50, 99))
        return float(p50_ms), float(p99_ms)

    def _take_answer(self, stamp_ns: int, received_ns: int) -> None:
        sent_ns = self._open.pop(stamp_ns, None)
        if sent_ns is None:
            return
        self.answered += 1
        self._recent.append((received_ns, received_ns - sent_ns))
        if stamp_ns not in self._late and received_ns - sent_ns > self._deadline_ns:
            self.missed += 1
        self._late.discard(stamp_ns)

    def _find_missed(self) -> None:
        for stamp_ns, sent_ns in self._open.items():
            if self.now_ns - sent_ns <= self._deadline_ns:
                return  # those that follow are younger
            if stamp_ns not in self._late:
                self._late.add(stamp_ns)
                self.missed += 1


def _find_fault(record: HilRecord, now_ns: int) -> Fault:
    on = (i.fault for i in record.faults if i.begin_ns <= now_ns < i.end_ns)
    return next(on, Fault.OK)


class RunView(Redrawn):
    """Shows a run on a console, from entering to leaving."""

    def __init__(
        self,
        console: Console,
        scenario: Scenario,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare for the run of a scenario; ``steady_ns`` is the clock of its record."""
        super().__init__(console)
        self._scenario = scenario
        self._tally: Tally | None = None  # the deadline may be the device's
        self._steady_ns = steady_ns
        self._time_s, self._next_line_s = 0.0, LINE_PERIOD_S
        # Replaced as a whole: a thread of rich's reads it.
        self._cells: Mapping[str, Text] = {"waiting for": Text(scenario.node.target)}

    def leave(self) -> None:
        """Write the state: the last one stays."""
        said = (f"{name}: {cell.plain}" for name, cell in self._cells.items())
        self.console.print(Text(", ".join(said)))

    def update(self, record: HilRecord) -> None:
        """Show what is new; call it a few times a second."""
        if not record.begin_ns:
            return  # it has not begun
        if self._tally is None:
            self._tally = Tally(deadline_ms(self._scenario, record))
        self._tally.update(record, self._steady_ns())
        time_s = (self._tally.now_ns - record.begin_ns) / SECOND_NS
        self._time_s = min(max(0.0, time_s), self._scenario.camera.seconds)
        self._cells = self._describe(self._tally)
        if not self.console.is_terminal and self._time_s >= self._next_line_s:
            self._next_line_s = self._time_s - self._time_s % LINE_PERIOD_S + LINE_PERIOD_S
            self.leave()

    def _describe(self, tally: Tally) -> dict[str, Text]:
        p50_ms, p99_ms = tally.percentiles_ms()
        alarms = printable(", ".join(f"{row} {level}" for row, level in tally.alarms.items()))
        return {
            "time": Text(f"{self._time_s:.0f} of {self._scenario.camera.seconds:g} s"),
            "camera": Text(str(tally.fault), "" if tally.fault is Fault.OK else "yellow"),
            "state": Text(
                printable(tally.state), "green" if tally.state == "active" else "yellow"
            ),
            "sent": Text(str(tally.sent)),
            "answered": Text(str(tally.answered)),
            "missed": Text(str(tally.missed), "red" if tally.missed else ""),
            "p50, p99 (ms)": Text(f"{p50_ms:.1f}, {p99_ms:.1f}" if p50_ms > 0.0 else "none"),
            "alarms": Text(alarms or "none", "red" if alarms else ""),
        }

    def render(self) -> Table:
        """Return the table."""
        table = Table(
            "", "", title=Text(printable(self._scenario.name)), show_header=False, min_width=WIDTH
        )
        for name, cell in self._cells.items():
            table.add_row(name, cell)
        return table
