# SPDX-License-Identifier: Apache-2.0
"""A run as one HTML file: verdict, checks, timeline, distribution, faults, steps, alarms, log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.bench.hil.calm import count_held_back, deadline_ms, find_calm
from perception_node.bench.hil.distribution import draw_distribution
from perception_node.bench.hil.lanes import duration_s, seconds_into
from perception_node.bench.hil.page_rows import (
    find_changes,
    find_facts,
    judge_in_words,
    make_fault_rows,
    make_percentiles,
    make_tiles,
)
from perception_node.bench.hil.round_trips import find_remarks, join
from perception_node.bench.hil.svg import MOST_POINTS, format_time
from perception_node.bench.hil.timeline import NARROW, WIDE, draw_timeline
from perception_node.html_page import render, to_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.bench.hil.record import Check, HilRecord
    from perception_node.bench.hil.round_trips import RoundTrips
    from perception_node.bench.hil.scenario import Scenario

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
