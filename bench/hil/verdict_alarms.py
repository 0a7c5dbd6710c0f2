# SPDX-License-Identifier: Apache-2.0
"""Judge /diagnostics: does it say what it must, and nothing that nothing explains?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.hil.calm import Span, find_outages
from perception_node.bench.hil.record import Check
from perception_node.bench.soak.alarms import BUSY, NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perception_node.bench.hil.expectations import DiagnosticDemand
    from perception_node.bench.hil.record import DiagnosticChange, HilRecord
    from perception_node.bench.hil.scenario import Scenario

ALARMS = ("WARN", "ERROR")
NOTICED_NS = 2 * SECOND_NS  # after the end of its cause


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
    """Judge whether each alarm has a cause, and whether none is left."""
    if not scenario.expect.no_unexpected_alarms:
        return []
    warm_ns = record.begin_ns + int(scenario.camera.warm_up_s * SECOND_NS)
    wrong = {
        f"{change.row}: {change.message}"
        for change in record.diagnostics
        if warm_ns <= change.time_ns < record.end_ns
        and change.level in ALARMS
        and not _is_explained(change, scenario, record)
    }
    last = {c.row: c for c in record.diagnostics if c.time_ns < record.end_ns}
    left = [
        change.row
        for change in last.values()
        if change.level in ALARMS and not _is_explained_at_end(change, scenario, record)
    ]
    return [
        Check("other alarms", "; ".join(sorted(wrong)) or "none", "none", not wrong),
        Check("alarms at the end", ", ".join(sorted(left)) or "none", "none", not left),
    ]


def _find_begins(demand: DiagnosticDemand, record: HilRecord) -> Iterator[int]:
    """Yield when the cause of a row began."""
    if not demand.during:
        yield record.begin_ns
    faults = (i for i in record.faults if i.begin_ns < record.end_ns)  # not after an interrupt
    yield from (i.begin_ns for i in faults if str(i.fault) == demand.during)
    yield from (s.time_ns for s in record.steps if s.what == demand.during)


def _is_seen(demand: DiagnosticDemand, record: HilRecord, begin_ns: int) -> bool:
    end_ns = begin_ns + int(demand.within_s * SECOND_NS) if demand.during else record.end_ns
    of_row = [c for c in record.diagnostics if c.row == demand.row]
    in_force = [c for c in of_row if c.time_ns < begin_ns][-1:]
    news = [c for c in of_row if begin_ns <= c.time_ns <= end_ns]
    return any(_fits(demand, change) for change in (*in_force, *news))


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


def _is_explained(change: DiagnosticChange, scenario: Scenario, record: HilRecord) -> bool:
    """Return whether a fault, an outage, a demand or a busy machine explains an alarm."""
    if change.row in BUSY or change.message.startswith(BUSY):
        return True
    if any(_is_demanded(demand, change, record) for demand in scenario.expect.diagnostics):
        return True
    for interval in record.faults:
        row, words = NAMED.get(interval.fault, ("", ""))
        is_named = change.row == row and words in change.message
        if is_named and _is_near(change, Span(interval.begin_ns, interval.end_ns)):
            return True
    return any(_is_near(change, outage) for outage in find_outages(record))


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
