# SPDX-License-Identifier: Apache-2.0
"""Judge /diagnostics: does it say what it must, and nothing that nothing explains?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault
from perception_node.bench.check import Check
from perception_node.bench.hil.calm import Span, find_outages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perception_node.bench.camera.fault_schedule import Interval
    from perception_node.bench.hil.recorder import DiagnosticChange, HilRecord
    from perception_node.bench.hil.scenario import DiagnosticDemand, Scenario

ALARMS = ("WARN", "ERROR")
NOTICED_NS = 2 * SECOND_NS  # after the end of its cause
# Where /diagnostics names a fault, and in which words. A burst and a few lost frames are no fault
# of the node's input: the newest frame wins.
NAMED = {
    Fault.OFF: ("input", "Timeout"),
    Fault.STUCK: ("picture", "stuck"),
    Fault.GARBAGE: ("input", "unusable"),
    Fault.WRONG: ("input", "unusable"),
    Fault.CORRUPT: ("input", "unusable"),
    Fault.SLOW: ("rate", "images per second"),
    Fault.DELAYED: ("deadline", "missed the deadline"),
}
VISIBLE_NS = 6 * SECOND_NS // 5  # a shorter fault may end before /diagnostics says so
PROMPT_NS = SECOND_NS  # after its end, where each fault must be named
BUSY = ("rate", "deadline", "connection", "Timeout")  # a busy machine may be, at any time
WELL_AT_END = ("engine", "inference", "process", "input", "picture")


class Said(NamedTuple):
    """A row of /diagnostics, and until when it said so."""

    change: DiagnosticChange
    end_ns: int


def judge_diagnostics(scenario: Scenario, record: HilRecord) -> list[Check]:
    """Judge the rows that must be seen, each time that their cause occurs."""
    checks = []
    for demand in scenario.expect.diagnostics:
        begins_ns = list(_find_begins(demand, record))
        seen = [_is_seen(demand, record, begin_ns) for begin_ns in begins_ns]
        during = f" during {demand.during}" if demand.during else ""
        words = " ".join(filter(None, (demand.level, demand.contains)))
        limit = f"{words or 'anything'}, each time"
        if demand.during:
            limit += f" within {demand.within_s:g} s"
        found = f"{sum(seen)} of {len(seen)} times"
        name = f"/diagnostics {demand.row}{during}"
        checks.append(Check(name, found, limit, bool(seen) and all(seen)))
    return checks


def judge_alarms(scenario: Scenario, record: HilRecord) -> list[Check]:
    """Judge whether faults are named, whether each alarm has a cause, and whether none is left."""
    expect, rows = scenario.expect, list(_find_rows(record))
    alarms = [r for r in rows if r.change.level in ALARMS and r.change.time_ns < record.end_ns]
    checks = [_judge_named(alarms, record)] if expect.faults_named else []
    if not expect.no_unexpected_alarms:
        return checks
    warm_ns = record.begin_ns + int(scenario.camera.warm_up_s * SECOND_NS)
    wrong = {
        f"{alarm.change.row}: {alarm.change.message}"
        for alarm in alarms
        if (alarm.end_ns if expect.faults_named else alarm.change.time_ns) >= warm_ns
        and not _is_explained(alarm, scenario, record)
    }
    last = {c.row: c for c in record.diagnostics if c.time_ns < record.end_ns}
    left = {
        change.row
        for change in last.values()
        if change.level in ALARMS and not _is_explained_at_end(change, scenario, record)
    }
    if expect.faults_named:
        left |= {row for row in WELL_AT_END if row not in last or last[row].level != "OK"}
    return [
        *checks,
        Check("other alarms", "; ".join(sorted(wrong)) or "none", "none", not wrong),
        Check("alarms at the end", ", ".join(sorted(left)) or "none", "none", not left),
    ]


def _find_rows(record: HilRecord) -> Iterator[Said]:
    """Yield each row of each time, until it has changed or the camera has ended."""
    ends_ns: dict[str, int] = {}
    for change in reversed(record.diagnostics):
        yield Said(change, ends_ns.get(change.row, max(record.end_ns, change.time_ns + 1)))
        ends_ns[change.row] = change.time_ns


def _judge_named(alarms: Sequence[Said], record: HilRecord) -> Check:
    """Judge whether /diagnostics named each fault that was there for long enough."""
    visible = [
        fault
        for fault in record.faults
        if fault.fault in NAMED
        and fault.end_ns - fault.begin_ns >= VISIBLE_NS
        and fault.end_ns <= record.end_ns  # not after an interrupt
    ]
    missed = [
        str(fault.fault)
        for fault in visible
        if not any(
            _names(alarm.change, fault)
            and alarm.end_ns > fault.begin_ns
            and alarm.change.time_ns <= fault.end_ns + PROMPT_NS
            for alarm in alarms
        )
    ]
    found = f"{len(visible) - len(missed)} of {len(visible)}"
    found += f"; not: {', '.join(missed)}" if missed else ""
    return Check("faults that /diagnostics named", found, "all", not missed)


def _names(change: DiagnosticChange, fault: Interval) -> bool:
    row, words = NAMED.get(fault.fault, ("", ""))
    return change.row == row and words in change.message


def _find_begins(demand: DiagnosticDemand, record: HilRecord) -> Iterator[int]:
    """Yield when the cause of a row began."""
    if not demand.during:
        yield record.begin_ns
    faults = (i for i in record.faults if i.begin_ns < record.end_ns)  # not after an interrupt
    yield from (i.begin_ns for i in faults if str(i.fault) == demand.during)
    yield from (s.time_ns for s in record.steps if s.what == demand.during)


def _is_seen(demand: DiagnosticDemand, record: HilRecord, begin_ns: int) -> bool:
    end_ns = begin_ns + int(demand.within_s * SECOND_NS) if demand.during else record.end_ns
    return any(
        _fits(demand, said.change) and said.change.time_ns <= end_ns and said.end_ns > begin_ns
        for said in _find_rows(record)
    )


def _fits(demand: DiagnosticDemand, change: DiagnosticChange) -> bool:
    is_level = not demand.level or change.level == demand.level
    return change.row == demand.row and is_level and demand.contains in change.message


def _is_demanded(demand: DiagnosticDemand, change: DiagnosticChange, record: HilRecord) -> bool:
    """Return whether a row is one that must be seen, and at its time."""
    if not _fits(demand, change) or not demand.during:
        return _fits(demand, change)
    within_ns = int(demand.within_s * SECOND_NS)
    faults = (i for i in record.faults if str(i.fault) == demand.during)
    causes = [Span(i.begin_ns, max(i.end_ns, i.begin_ns + within_ns)) for i in faults]
    begins_ns = (s.time_ns for s in record.steps if s.what == demand.during)
    causes += [Span(begin_ns, begin_ns + within_ns) for begin_ns in begins_ns]
    return any(_is_near(change, cause) for cause in causes)


def _is_explained(alarm: Said, scenario: Scenario, record: HilRecord) -> bool:
    """Return whether a fault, an outage, a demand or a busy machine explains an alarm."""
    change = alarm.change
    if change.row in BUSY or change.message.startswith(BUSY):
        return True
    if any(_is_demanded(demand, change, record) for demand in scenario.expect.diagnostics):
        return True
    if any(_is_near(change, outage) for outage in find_outages(record)):
        return True
    causes = [Span(f.begin_ns, f.end_ns) for f in record.faults if _names(change, f)]
    if not scenario.expect.faults_named:
        return any(_is_near(change, cause) for cause in causes)
    period_s = float(str(scenario.node.parameters.get("diagnostics_period_s", 1.0)))
    latest_ns = PROMPT_NS + int(period_s * SECOND_NS)  # for what says that it is well again
    begins = any(c.begin_ns <= change.time_ns <= c.end_ns + PROMPT_NS for c in causes)
    return begins and any(c.begin_ns < alarm.end_ns <= c.end_ns + latest_ns for c in causes)


def _is_explained_at_end(change: DiagnosticChange, scenario: Scenario, record: HilRecord) -> bool:
    """Return whether an alarm may still be there: its cause is, or has only just gone."""
    recent_ns = record.end_ns - NOTICED_NS
    if change.row in BUSY or change.message.startswith(BUSY):
        return True
    if any(_fits(demand, change) and not demand.during for demand in scenario.expect.diagnostics):
        return True
    causes = [Span(i.begin_ns, i.end_ns) for i in record.faults]
    return any(span.end_ns >= recent_ns for span in (*causes, *find_outages(record)))


def _is_near(change: DiagnosticChange, span: Span) -> bool:
    return span.begin_ns <= change.time_ns <= span.end_ns + NOTICED_NS
