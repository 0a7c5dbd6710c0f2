# SPDX-License-Identifier: Apache-2.0
"""What the page says of a run, in words and rows."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from math import isinf, isnan
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.hil.lanes import duration_s
from perception_node.bench.hil.round_trips import find_effects
from perception_node.bench.hil.svg import format_time
from perception_node.html_page import DASH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perception_node.bench.check import Check
    from perception_node.bench.hil.record import DiagnosticChange, HilRecord
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
