# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML file: verdict, checks, timeline, distribution, faults, steps, alarms, log."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from math import isinf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.hil.calm import count_held_back, deadline_ms, find_calm
from perception_node.bench.hil.distribution import draw_distribution
from perception_node.bench.hil.lanes import duration_s, seconds_into
from perception_node.bench.hil.round_trips import find_effects, find_remarks, join
from perception_node.bench.hil.svg import MOST_POINTS, format_time
from perception_node.bench.hil.timeline import NARROW, WIDE, draw_timeline
from perception_node.html_page import DASH, render, to_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perception_node.bench.check import Check
    from perception_node.bench.hil.recorder import DiagnosticChange, HilRecord
    from perception_node.bench.hil.round_trips import FaultEffect, RoundTrips
    from perception_node.bench.hil.scenario import Scenario
    from perception_node.bench.reporting.durations import Durations


MOST_FAULTS = 30  # more are added up by kind
PERCENTILES = {
    "median": "p50",
    "90 %": "p90",
    "99 %": "p99",
    "99.9 %": "p999",
    "slowest": "max",
    "mean": "mean",
}
WHOLE_FROM_MS = 100.0  # no decimals from here on
LEAST = {"p999": 1000}  # answers, for a percentile that means something


class FaultRow(NamedTuple):
    """One fault, or all of a kind, in words."""

    when: str
    fault: str
    sent: int
    answered: int
    recovery: str


def judge_in_words(record: HilRecord, checks: Sequence[Check]) -> dict[str, str]:
    """Return the verdict: how it looks, one word, one sentence."""
    failed = [check for check in checks if not check.is_ok]
    kept = f"{len(checks) - len(failed)} of {len(checks)} checks are met"
    if not record.complete:
        text = f"The run was stopped after {duration_s(record):.0f} s; {kept} so far."
        return {"look": "warn", "word": "Interrupted", "text": text}
    if not failed:
        return {"look": "good", "word": "Passed", "text": f"All {len(checks)} checks are met."}
    worst = failed[0]
    text = f"{kept}. {worst.name}: found {worst.found}, demanded {worst.limit}."
    if len(failed) > 1:
        text += f" And {len(failed) - 1} more."
    return {"look": "bad", "word": "Failed", "text": text}


def find_facts(scenario: Scenario, record: HilRecord) -> list[str]:
    """Say when, for how long, what was played, to whom."""
    facts = [f"{duration_s(record):.0f} s at {scenario.camera.rate_hz:g} Hz"]
    if record.sent:
        first = record.sent[0]
        time_s = (first.stamp_ns - first.sent_ns + record.begin_ns) / 1e9
        began = datetime.fromtimestamp(time_s, timezone.utc)
        facts.insert(0, f"{began:%Y-%m-%d %H:%M} UTC")
    facts.append(
        f"{scenario.node.target}, {'started here' if scenario.node.is_local else 'remote'}"
    )
    return facts


def make_tiles(durations: Durations, judged: int) -> list[tuple[str, str, str]]:
    """Return the few numbers that matter: value, unit, what it is."""
    summary = durations.summarize()
    share = f"{100.0 * len(durations) / judged:.1f}" if judged else DASH
    return [
        (share, "%", f"of {judged} judged frames answered"),
        (_number(summary.p50_ms), "ms", "median latency"),
        (_number(summary.p99_ms), "ms", "99th percentile"),
        (_number(summary.max_ms), "ms", "slowest answer"),
    ]


def make_percentiles(
    trips: RoundTrips, durations: Durations, limits_ms: Mapping[str, float]
) -> list[list[str]]:
    """Return rows: percentile, judged frames, frames while the camera fails, limit."""
    judged = durations.summarize()._asdict()
    spoilt = trips.durations(~trips.is_good).summarize()._asdict()
    rows = []
    for name, key in PERCENTILES.items():
        limit = f"{limits_ms[key]:g}" if key in limits_ms else ""
        values = (
            _number(summary[f"{key}_ms"]) if summary["count"] >= LEAST.get(key, 1) else DASH
            for summary in (judged, spoilt)
        )
        rows.append([name, *values, limit])
    rows.append(["answers", str(judged["count"]), str(spoilt["count"]), ""])
    return rows


def find_changes(record: HilRecord) -> list[DiagnosticChange]:
    """Return what /diagnostics said, without the first OK of each row."""
    seen: set[str] = set()
    changes = []
    for change in record.diagnostics:
        if change.row in seen or change.level != "OK":
            changes.append(change)
        seen.add(change.row)
    return changes


def make_fault_rows(record: HilRecord, trips: RoundTrips) -> list[FaultRow]:
    """Return a row for each fault; in long runs, one for each kind."""
    effects = find_effects(record, trips)
    if len(effects) <= MOST_FAULTS:
        return [_to_row([effect], record) for effect in effects]
    kinds: dict[str, list[FaultEffect]] = defaultdict(list)
    for effect in effects:
        kinds[effect.fault].append(effect)
    return [_to_row(of_kind, record) for of_kind in kinds.values()]


def _to_row(effects: Sequence[FaultEffect], record: HilRecord) -> FaultRow:
    end_s, first = duration_s(record), effects[0]
    when = f"{len(effects)} times"
    if len(effects) == 1:
        when = f"{format_time(first.begin_s, end_s)} {DASH} {format_time(first.end_s, end_s)}"
    recoveries_s = [effect.recovery_s for effect in effects]
    missing = sum(map(isinf, recoveries_s))
    if missing:
        recovery = "never" if len(effects) == 1 else f"{missing} times never"
    else:
        recovery = f"{max(recoveries_s):.2f} s"
    sent, answered = (sum(getattr(e, name) for e in effects) for name in ("sent", "answered"))
    return FaultRow(when, first.fault, sent, answered, recovery)


def _number(value_ms: float) -> str:
    if isnan(value_ms):
        return DASH
    return f"{value_ms:.1f}" if value_ms < WHOLE_FROM_MS else f"{value_ms:.0f}"


TEMPLATE = Path(__file__).with_name("page.html.j2")
MOST_ALARMS, MOST_LOG_LINES, MOST_LETTERS = 300, 200, 500


def to_html(
    scenario: Scenario,
    record: HilRecord,
    checks: Sequence[Check],
    remarks: Sequence[str] = (),
) -> str:
    """Return the page; the arguments are those of ``report_json.to_report``."""
    trips, calm, limits_ms = join(record), find_calm(scenario, record), scenario.expect.latency_ms
    lines_ms = {"deadline": deadline_ms(scenario, record)}
    lines_ms |= {"max": limits_ms["max"]} if "max" in limits_ms else {}
    changes = find_changes(record)
    durations = trips.durations(calm)
    timelines = {
        look.name: draw_timeline(record, trips, calm, lines_ms, look) for look in (WIDE, NARROW)
    }
    verdict = judge_in_words(record, checks)
    body = render(
        TEMPLATE,
        name=scenario.name,
        description=scenario.description,
        verdict=verdict,
        facts=find_facts(scenario, record),
        tiles=make_tiles(durations, int(calm.sum()) + count_held_back(scenario, record)),
        checks=sorted(checks, key=lambda check: check.is_ok),
        timelines=timelines,
        thinned=_describe_thinning(trips),
        distribution=draw_distribution(trips, calm, limits_ms),
        percentiles=make_percentiles(trips, durations, limits_ms),
        faults=make_fault_rows(record, trips),
        steps=[(_when(record, step.time_ns), step) for step in record.steps],
        alarms=[(_when(record, c.time_ns), c) for c in changes[:MOST_ALARMS]],
        more_alarms=max(0, len(changes) - MOST_ALARMS),
        device=record.device,
        log=[_shorten(line) for line in record.log[-MOST_LOG_LINES:]],
        log_lines=len(record.log),
        remarks=[*remarks, *find_remarks(record)],
    )
    return to_page(f"{verdict['word']}: {scenario.name}", body)


def _describe_thinning(trips: RoundTrips) -> str:
    answered = int(trips.is_answered.sum())
    if answered <= MOST_POINTS:
        return ""
    return (
        f"Of {answered} answers about {MOST_POINTS} are drawn: of each moment the slowest, "
        "the fastest and some evenly in between."
    )


def _when(record: HilRecord, time_ns: int) -> str:
    return format_time(round(seconds_into(record, time_ns), 1), duration_s(record))


def _shorten(line: str) -> str:
    return line if len(line) <= MOST_LETTERS else line[:MOST_LETTERS] + " ..."
