# SPDX-License-Identifier: Apache-2.0
"""A run as JSON, for programs: what was asked, what was found, and what it was found on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from perception_node.bench.hil.calm import count_held_back, find_calm
from perception_node.bench.hil.lanes import duration_s
from perception_node.bench.hil.round_trips import find_effects, find_remarks, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perception_node.bench.check import Check
    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario
    from perception_node.bench.reporting.durations import Durations

FORMAT, VERSION = "perception_node hil report", 1


def to_report(
    scenario: Scenario,
    record: HilRecord,
    checks: Sequence[Check],
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the report as plain values; times are seconds since the camera began.

    What is not known is null: a percentile of no answers, a recovery that did not come.

    Args:
        scenario: what was to be done.
        record: what happened.
        checks: what was demanded and found.
        remarks: what else is to be known, such as what the bag lacks.

    """
    trips, calm = join(record), find_calm(scenario, record)

    def seconds(time_ns: int) -> float:
        return round((time_ns - record.begin_ns) / 1e9, 6)

    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": record.complete,
        "passed": record.complete and all(check.is_ok for check in checks),
        "scenario": scenario.given,
        "seconds": round(duration_s(record), 6),
        "checks": [check._asdict() for check in checks],
        "counts": {
            "sent": len(record.sent),
            "answered": int(trips.is_answered.sum()),
            "judged": int(calm.sum()) + count_held_back(scenario, record),
            "judged_and_answered": int((calm & trips.is_answered).sum()),
            "answers": len(record.answers),
            "skipped": record.skipped,
            "held_back": len(record.held_back),
        },
        "latencies": {
            "judged": _to_latencies(trips.durations(calm)),
            "all": _to_latencies(trips.durations(trips.is_answered)),
        },
        "faults": [_finite(effect._asdict()) for effect in find_effects(record, trips)],
        "steps": [
            {"at_s": seconds(s.time_ns), "what": s.what, "took_s": s.seconds, "problem": s.problem}
            for s in record.steps
        ],
        "states": [{"at_s": seconds(s.time_ns), "state": s.state} for s in record.states],
        "diagnostics": [
            {"at_s": seconds(d.time_ns), "row": d.row, "level": d.level, "message": d.message}
            for d in record.diagnostics
        ],
        "device": record.device,
        "exit_code": record.exit_code,
        "unexpected_ends": record.unexpected_ends,
        "host": _read_host(),
        "remarks": [*remarks, *find_remarks(record)],
    }


def _to_latencies(durations: Durations) -> dict[str, Any]:
    return {**_finite(durations.summarize()._asdict()), "histogram": durations.encode()}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not know."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _read_host() -> dict[str, Any]:
    """Describe this machine, which played the car."""
    from perception_node.bench.machine import read_machine  # noqa: PLC0415 - it loads a lot

    return read_machine()
