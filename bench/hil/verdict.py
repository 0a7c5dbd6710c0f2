# SPDX-License-Identifier: Apache-2.0
"""Judge a run: one check for each thing that the scenario demands, and a few that always hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.camera.fault_schedule import Fault
from perception_node.bench.check import Check
from perception_node.bench.hil.calm import (
    count_held_back,
    deadline_ms,
    find_calm,
    find_outages,
)
from perception_node.bench.hil.round_trips import join
from perception_node.bench.hil.verdict_alarms import judge_alarms, judge_diagnostics
from perception_node.bench.hil.verdict_labels import judge_labels
from perception_node.bench.hil.verdict_leaks import judge_leaks
from perception_node.bench.hil.verdict_recovery import judge_recovery
from perception_node.bench.node_log import judge_account, read_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.round_trips import RoundTrips
    from perception_node.bench.hil.scenario import Scenario

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
MOST_SKIPPED_PERCENT = 5.0


def judge(scenario: Scenario, record: HilRecord, golden_labels: Sequence[str] = ()) -> list[Check]:
    """Judge everything.

    Args:
        scenario: what was demanded.
        record: what happened.
        golden_labels: the label of each picture, where the scenario names a golden file.

    """
    trips, calm = join(record), find_calm(scenario, record)
    return [
        _judge_host(record),
        _judge_stray_answers(record),
        *_judge_latency(scenario, trips, calm),
        *_judge_answers(scenario, record, trips, calm),
        *_judge_ages(scenario, record),
        *judge_labels(scenario, record, calm, golden_labels),
        *_judge_steps(record),
        *judge_recovery(scenario, record, trips),
        *judge_diagnostics(scenario, record),
        *judge_alarms(scenario, record),
        *judge_leaks(scenario, record, calm),
        *_judge_state(scenario, record),
        *_judge_process(scenario, record),
    ]


def _judge_host(record: HilRecord) -> Check:
    """Judge this host: what it could not send in time is no load, and the rest proves little."""
    planned = len(record.sent) + record.skipped
    percent = 100.0 * record.skipped / max(1, planned)
    found = f"{len(record.sent)} frames, {percent:.1f} % left out"
    if record.held_back:
        found += f", {len(record.held_back)} more held back by the network"
    is_ok = bool(record.sent) and percent <= MOST_SKIPPED_PERCENT
    limit = f"at most {MOST_SKIPPED_PERCENT:g} % left out by this host"
    return Check("camera of the host", found, limit, is_ok)


def _judge_stray_answers(record: HilRecord) -> Check:
    """Find answers to frames that nobody sent, and second answers: somebody else is there."""
    sent = {frame.stamp_ns for frame in record.sent}
    stamps = [answer.stamp_ns for answer in record.answers]
    unknown, repeated = sum(s not in sent for s in stamps), len(stamps) - len(set(stamps))
    found = f"{unknown} to unknown frames, {repeated} second ones"
    return Check("one answer to one frame", found, "0, 0", not unknown and not repeated)


def _judge_latency(scenario: Scenario, trips: RoundTrips, calm: NDArray[np.bool_]) -> list[Check]:
    durations = trips.durations(calm)
    checks = []
    for name, limit_ms in scenario.expect.latency_ms.items():
        found_ms = durations.percentile_ms(PERCENTILES[name])
        found = "no answer" if math.isnan(found_ms) else f"{found_ms:.1f} ms"
        limit = f"at most {limit_ms:g} ms"
        checks.append(Check(f"latency {name}", found, limit, found_ms <= limit_ms))
    return checks


def _judge_answers(
    scenario: Scenario, record: HilRecord, trips: RoundTrips, calm: NDArray[np.bool_]
) -> list[Check]:
    expect, limit_ms = scenario.expect, deadline_ms(scenario, record)
    frames = int(np.count_nonzero(calm)) + count_held_back(scenario, record)
    in_time = int(np.count_nonzero(calm & (trips.latency_ms <= limit_ms)))  # NaN is not
    answered = int(np.count_nonzero(calm & trips.is_answered))
    checks = []
    if expect.missed_percent is not None:
        percent = 100.0 * (frames - in_time) / max(1, frames)
        found = f"{percent:.2f} % of {frames} not within {limit_ms:g} ms"
        is_ok = frames > 0 and percent <= expect.missed_percent
        checks.append(Check("missed", found, f"at most {expect.missed_percent:g} %", is_ok))
    if expect.answered_percent is not None:
        percent = 100.0 * answered / max(1, frames)
        is_ok = frames > 0 and percent >= expect.answered_percent
        limit = f"at least {expect.answered_percent:g} %"
        checks.append(Check("answered", f"{percent:.2f} % of {frames}", limit, is_ok))
    return checks


def _judge_ages(scenario: Scenario, record: HilRecord) -> list[Check]:
    """Find the oldest answer, by this host's clock alone: from the frame's time to its arrival.

    The way back is in it, so it is at least the age at which the device has published.
    """
    if not scenario.expect.never_late:
        return []
    by_arrival = record.device.get("age_reference") == "arrival"
    sent = {frame.stamp_ns: frame for frame in record.sent}
    ages_ms = []
    for answer in record.answers:
        frame = sent.get(answer.stamp_ns)
        if frame is None:
            continue
        if frame.fault is Fault.CLOCK_STEP and not by_arrival:
            return [Check("never late", "a stamp an hour off was answered", "none", is_ok=False)]
        origin_ns = frame.sent_ns if by_arrival else frame.due_ns
        ages_ms.append((answer.received_ns - origin_ns) / 1e6)
    limit_ms = deadline_ms(scenario, record) + scenario.expect.arrival_allowance_ms
    found = f"oldest on arrival {max(ages_ms):.1f} ms" if ages_ms else "no answer"
    is_ok = bool(ages_ms) and max(ages_ms) <= limit_ms
    return [Check("never late", found, f"at most {limit_ms:g} ms", is_ok)]


def _judge_steps(record: HilRecord) -> list[Check]:
    if not record.steps:
        return []
    failed = [f"{step.what}: {step.problem}" for step in record.steps if step.problem]
    found = "; ".join(failed) or f"{len(record.steps)} taken"
    return [Check("steps", found, "none fails", not failed)]


def _judge_state(scenario: Scenario, record: HilRecord) -> list[Check]:
    """Judge the last state, unless a step has left the device down on purpose."""
    is_down = any(span.end_ns >= record.end_ns for span in find_outages(record))
    is_activated = any(step.what == "activate" for step in record.steps)
    by_itself = not scenario.node.is_local or bool(scenario.node.parameters.get("autostart", True))
    if is_down or not (by_itself or is_activated):
        return []
    states = [change.state for change in record.states if change.time_ns <= record.end_ns]
    last = states[-1] if states else "unknown"
    return [Check("state at the end", last, "active", last == "active")]


def _judge_process(scenario: Scenario, record: HilRecord) -> list[Check]:
    if not scenario.node.is_local:
        return []
    ends, expect = record.unexpected_ends, scenario.expect
    checks = [Check("the process ended by itself", f"{ends} times", "never", ends == 0)]
    if expect.exit_code is not None and record.complete:
        found = "none" if record.exit_code is None else str(record.exit_code)
        is_ok = record.exit_code == expect.exit_code
        checks.append(Check("exit code", found, str(expect.exit_code), is_ok))
    if expect.account_exact and record.complete:
        checks += _judge_account(record)
    return checks


def _judge_account(record: HilRecord) -> list[Check]:
    account = read_account(record.log)
    checks = [judge_account("account of the node", account)]
    if any(step.what == "kill" for step in record.steps) or record.unexpected_ends:
        return checks  # what the process published that was killed is not known
    answers, published = len(record.answers), account.get("published", -1)
    limit = f"published: {published}"
    return [*checks, Check("answers received", str(answers), limit, answers == published)]
