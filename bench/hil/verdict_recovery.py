# SPDX-License-Identifier: Apache-2.0
"""Judge how soon the device answers again after a fault, an activation, a kill."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.check import Check
from perception_node.bench.hil.calm import find_outages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.round_trips import RoundTrips
    from perception_node.bench.hil.scenario import Scenario


class _Return(NamedTuple):
    """A moment from which on answers are awaited."""

    kind: str  # fault, activate, kill
    after: str
    since_s: float


def judge_recovery(scenario: Scenario, record: HilRecord, trips: RoundTrips) -> list[Check]:
    """Judge the longest recovery of each kind that the scenario limits."""
    returns = list(_find_returns(scenario, record))
    checks = []
    for kind, limit_s in scenario.expect.recovery_s.items():
        found_s = [(trips.wait_s(r.since_s), r.after) for r in returns if r.kind == kind]
        if not found_s:
            continue
        longest_s, after = max(found_s)
        name = f"recovery after {'a fault' if kind == 'fault' else kind}"
        words = "never" if math.isinf(longest_s) else f"{longest_s:.2f} s"
        found = f"{words} after {after}" if kind == "fault" else words
        checks.append(Check(name, found, f"at most {limit_s:g} s", longest_s <= limit_s))
    return checks


def _find_returns(scenario: Scenario, record: HilRecord) -> Iterator[_Return]:
    """Yield when the device should answer again; not what a later trouble makes impossible."""

    def since_s(time_ns: int) -> float:
        return (time_ns - record.begin_ns) / SECOND_NS

    outages, last_ns = find_outages(record), record.end_ns - scenario.camera.period_ns
    begins_ns = [fault.begin_ns for fault in record.faults]
    for fault in record.faults:
        is_down = any(out.begin_ns <= fault.end_ns < out.end_ns for out in outages)
        if not is_down and fault.end_ns < last_ns and fault.end_ns not in begins_ns:
            yield _Return("fault", str(fault.fault), since_s(fault.end_ns))
    for number, step in enumerate(record.steps):
        is_last = number + 1 == len(record.steps) or record.steps[number + 1].what == "kill"
        comes_back = step.what == "kill" and scenario.node.respawn and is_last
        autostarts = bool(scenario.node.parameters.get("autostart", True))
        if not step.problem and (step.what == "activate" or (comes_back and autostarts)):
            yield _Return(step.what, step.what, since_s(step.time_ns))
