# SPDX-License-Identifier: Apache-2.0
"""Judge a soak: each row says what was found and what would have been right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, FaultSchedule
from perception_node.bench.soak.alarms import judge_alarms
from perception_node.bench.soak.limits import LONG_S, Row, judge_drift, judge_process
from perception_node.bench.soak.log import (
    find_repeated,
    find_unexpected,
    is_balanced,
    read_account,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.bench.process_watch import ProcessSample
    from perception_node.bench.soak.record import SoakRecord

# A short run may fall into a busy minute of the machine, which an hour would outweigh.
MAX_RECOVERY_S, MAX_SHORT_RECOVERY_S = 1.0, 5.0
LEAST_ANSWERED, LEAST_SHORT_ANSWERED = 0.5, 0.1  # of the frames that nothing was wrong with
SETTLED_NS = SECOND_NS  # after a fault


@dataclass(frozen=True)
class SoakRun:
    """What was done and what was seen.

    Attributes:
        schedule: the faults, on the clock of the stamps.
        period_ns: from one frame to the next; the first is at the schedule's beginning.
        pictures: different pictures, shown in turn.
        deadline_ms: the node's.
        sent_ok: frames that were sent as they should be.
        record: what the node said.
        samples: its process once a second.
        log: its lines, also those after its end.
        was_active: it answered at the end that it is.
        exit_code: its own.

    """

    schedule: FaultSchedule
    period_ns: int
    pictures: int
    deadline_ms: float
    sent_ok: int
    record: SoakRecord
    samples: list[ProcessSample]
    log: list[str]
    was_active: bool
    exit_code: int

    @property
    def is_long(self) -> bool:
        """Whether the limits of a release count."""
        intervals = self.schedule.intervals
        return intervals[-1].end_ns - intervals[0].begin_ns >= LONG_S * SECOND_NS


def judge(run: SoakRun) -> list[Row]:
    """Judge everything."""
    record = run.record
    stamps_ns = np.asarray(record.stamps_ns, np.int64)
    aged_ns = np.asarray(record.aged_stamps_ns, np.int64)
    ages_ms = np.asarray(record.ages_ms, np.float64)
    return [
        *judge_process(run.samples),
        judge_drift(ages_ms[_is_calm(run.schedule, aged_ns)]),
        _judge_deadline(run, ages_ms),
        *_judge_accounts(run),
        _judge_answers(run, stamps_ns),
        _judge_same_answers(run, stamps_ns),
        _judge_recovery(run, stamps_ns),
        *judge_alarms(run.schedule, run.record),
        *_judge_log(run.log),
        Row("active at the end", _yes(run.was_active), "yes", run.was_active),
        Row("exit code", str(run.exit_code), "0", run.exit_code == 0),
    ]


def _is_calm(schedule: FaultSchedule, stamps_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stamps lie in a time without a fault, and not just after one."""
    begins_ns = np.array([interval.begin_ns for interval in schedule.intervals])
    is_ok = np.array([interval.fault is Fault.OK for interval in schedule.intervals])
    place = np.maximum(np.searchsorted(begins_ns, stamps_ns, side="right") - 1, 0)
    calm: NDArray[np.bool_] = is_ok[place] & (stamps_ns - begins_ns[place] >= SETTLED_NS)
    return calm


def _judge_deadline(run: SoakRun, ages_ms: NDArray[np.float64]) -> Row:
    oldest = f"{ages_ms.max():.1f}" if ages_ms.size else "none"
    is_ok = bool(ages_ms.size) and float(ages_ms.max()) <= run.deadline_ms
    return Row("age of the oldest result, ms", oldest, f"at most {run.deadline_ms:g}", is_ok)


def _judge_accounts(run: SoakRun) -> list[Row]:
    account, results = read_account(run.log), len(run.record.stamps_ns)
    found = ", ".join(f"{name} {number}" for name, number in account.items() if number)
    published = account.get("published", -1)
    return [
        Row("account", found or "none", "exact, nothing in flight", is_balanced(account)),
        Row("results received", str(results), f"published: {published}", results == published),
    ]


def _judge_answers(run: SoakRun, stamps_ns: NDArray[np.int64]) -> Row:
    answered = int(np.count_nonzero(_is_calm(run.schedule, stamps_ns)))
    calm_ns = sum(
        max(0, i.end_ns - i.begin_ns - SETTLED_NS)
        for i in run.schedule.intervals
        if i.fault is Fault.OK
    )
    share = answered / max(1, min(run.sent_ok, calm_ns // run.period_ns))
    least = LEAST_ANSWERED if run.is_long else LEAST_SHORT_ANSWERED
    what, limit = "answers while nothing is wrong", f"at least {least:.0%}"
    return Row(what, f"{share:.0%}", limit, share >= least)


def _judge_same_answers(run: SoakRun, stamps_ns: NDArray[np.int64]) -> Row:
    """Compare the classes of each picture: a result must be its own frame's."""
    calm = _is_calm(run.schedule, stamps_ns)
    first_ns = run.schedule.intervals[0].begin_ns
    pictures = (stamps_ns[calm] - first_ns) // run.period_ns % run.pictures
    classes = np.asarray(run.record.classes, np.int64)[calm]
    different = sum(
        int(np.count_nonzero(of_picture != of_picture[0]))
        for number in range(run.pictures)
        if (of_picture := classes[pictures == number]).size
    )
    limit = f"0 of {classes.size}"
    return Row("other class for the same picture", str(different), limit, different == 0)


def _judge_recovery(run: SoakRun, stamps_ns: NDArray[np.int64]) -> Row:
    """Find the fault after which the first answer to a good frame took longest."""
    newest_ns = np.maximum.accumulate(stamps_ns) if stamps_ns.size else stamps_ns
    longest_s, after = 0.0, Fault.OK
    for interval in run.schedule.intervals:
        if interval.fault is Fault.OK:
            continue
        place = int(np.searchsorted(newest_ns, interval.end_ns))
        if place == len(newest_ns):
            return Row("recovery", f"none after {interval.fault}", "every time", is_ok=False)
        recovery_s = (run.record.arrivals_ns[place] - interval.end_ns) / 1e9
        if recovery_s > longest_s:
            longest_s, after = recovery_s, interval.fault
    limit_s = MAX_RECOVERY_S if run.is_long else MAX_SHORT_RECOVERY_S
    found, limit = f"{longest_s:.2f} after {after}", f"at most {limit_s:g}"
    return Row("longest recovery, s", found, limit, longest_s <= limit_s)


def _judge_log(log: list[str]) -> list[Row]:
    unexpected, repeated = find_unexpected(log), find_repeated(log)
    found = f"{len(unexpected)}, such as {unexpected[0]}" if unexpected else "0"
    often = ", ".join(repeated) or "none"
    return [
        Row("unexpected log lines", found, "0", not unexpected),
        Row("logged more than once in 5 s", often, "none", not repeated),
    ]


def _yes(is_so: bool) -> str:  # noqa: FBT001
    return "yes" if is_so else "no"
