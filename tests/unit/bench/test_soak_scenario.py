# SPDX-License-Identifier: Apache-2.0
"""A good soak passes; each thing that can be wrong with one fails its own row."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, Interval
from perception_node.bench.hil.recorder import (
    Age,
    DiagnosticChange,
    HilRecord,
    SentFrame,
    StateChange,
)
from perception_node.bench.hil.verdict import judge
from perception_node.bench.node_log import is_balanced, read_account
from perception_node.bench.process_watch import ProcessSample
from perception_node.bench.soak.scenario import make_scenario
from perception_node.flow.accounts import FrameCounts
from perception_node.rehearsal.heard import Result
from tests.builders import START_NS

PERIOD_NS, PICTURES = SECOND_NS // 20, 4
FRAMES = 20 * 20
AGE_NS = 15_000_000
BEGIN_NS = 5 * SECOND_NS  # on the steady clock


def at(seconds):
    return BEGIN_NS + int(seconds * SECOND_NS)


BURST, OFF, STUCK = (
    Interval(fault, at(begin_s), at(begin_s + 2))
    for fault, begin_s in ((Fault.BURST, 2), (Fault.OFF, 6), (Fault.STUCK, 13.5))
)
FAULTS = [BURST, OFF, STUCK]
WELL = ("input", "picture", "engine", "inference", "process", "rate", "deadline", "connection")


def change(seconds, row, level="OK", message="well"):
    return DiagnosticChange(at(seconds), row, level, message)


START = [change(-1, row) for row in WELL]
TIMEOUT = [change(8, "input", "ERROR", "Timeout: no image for 1.2 s"), change(8.5, "input")]
REPEATED = [
    change(16, "picture", "WARN", "stuck: 15 identical images"),
    change(16.5, "picture"),
]
CALM_S = 18


def log_line(text, time_s=1.0, level="INFO"):
    return f"[{level}] [{time_s:.9f}] [perception]: {text}"


def fault_at(time_ns):
    on = (f.fault for f in FAULTS if f.begin_ns <= time_ns < f.end_ns)
    return next(on, Fault.OK)


def sent():
    for number in range(FRAMES):
        due_ns = BEGIN_NS + number * PERIOD_NS
        if fault_at(due_ns) is not Fault.OFF:
            stamp_ns = START_NS + number * PERIOD_NS
            yield SentFrame(stamp_ns, due_ns, due_ns, fault_at(due_ns), number % PICTURES)


def answers():
    for frame in sent():
        yield Result(frame.stamp_ns, frame.sent_ns + AGE_NS, f"label {frame.picture}", 0.9)


PUBLISHED = len(list(sent()))


def make_log(*others, published=PUBLISHED):
    received = published + 5
    counts = FrameCounts(received, published, malformed=5, malformed_by_kind={"layout": 5})
    return [
        log_line("model efficientnet_lite0 (models) runs on ONNX Runtime", 1.0),
        log_line("granted: what was made so far hidden from the garbage collector", 1.2),
        log_line("active: waiting for images on /image", 1.2),
        log_line("frame dropped (layout): data has 5 bytes", 10.0, "WARN"),
        log_line("frame dropped (stale): it is 500 ms old", 10.1, "WARN"),
        log_line("frame dropped (layout): data has 5 bytes", 15.0, "WARN"),
        *others,
        log_line(f"frames: {counts}", 70.0),
    ]


def make_record(**changes):
    record = HilRecord(
        begin_ns=BEGIN_NS,
        end_ns=at(20),
        complete=True,
        faults=FAULTS,
        sent=list(sent()),
        answers=list(answers()),
        ages=[Age(frame.stamp_ns, AGE_NS / 1e6) for frame in sent()],
        diagnostics=[*START, *TIMEOUT, *REPEATED],
        states=[StateChange(at(-1), "active")],
        device={"deadline_ms": "150"},
        samples=[ProcessSample(float(time_s), 150.0, 36.0, 31, 18) for time_s in range(20)],
        log=make_log(),
        exit_code=0,
    )
    return replace(record, **changes)


@cache
def scenario(seconds=20.0, transport="raw"):
    return make_scenario(seconds, 20.0, 1, transport)


def failed(**changes):
    return {c.name for c in judge(scenario(), make_record(**changes)) if not c.is_ok}


def with_changes(*changes):
    ordered = sorted([*START, *TIMEOUT, *REPEATED, *changes], key=lambda c: c.time_ns)
    return {"diagnostics": ordered}


def without(is_lost):
    """Return answers, and a log, without the results that were lost."""
    sent_ns = {frame.stamp_ns: frame.sent_ns for frame in sent()}
    kept = [one for one in answers() if not is_lost(sent_ns[one.stamp_ns])]
    return {"answers": kept, "log": make_log(published=len(kept))}


def test_a_good_run_passes():
    assert failed() == set()


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("exit code", {"exit_code": -9}),
        ("the process ended by itself", {"unexpected_ends": 1}),
        ("state at the end", {"states": [StateChange(at(-1), "inactive")]}),
        (
            "age of the oldest result, ms",
            {"ages": [*make_record().ages[1:], Age(START_NS, 150.1)]},
        ),
        ("age of the oldest result, ms", {"ages": []}),
        ("answers received", {"log": make_log(published=PUBLISHED + 1)}),
        (
            "other label for the same picture",
            {"answers": [*list(answers())[:-1], list(answers())[-1]._replace(label="other")]},
        ),
        ("faults that /diagnostics named", {"diagnostics": [*START, *TIMEOUT]}),
        ("faults that /diagnostics named", {"diagnostics": [*START, *REPEATED]}),
        ("alarms at the end", {"diagnostics": [*TIMEOUT, *REPEATED]}),
        ("alarms at the end", with_changes(change(19.9, "input", "ERROR", "Timeout: no image"))),
        (
            "growth of threads",
            {"samples": [ProcessSample(float(t), 150.0, 36.0, 31, 18 + t) for t in range(20)]},
        ),
        ("process", {"samples": []}),
    ],
)
def test_each_wrong_thing_has_its_row(row, changes):
    assert failed(**changes) == {row}


@pytest.mark.parametrize(
    "alarm",
    [
        change(CALM_S, "engine", "WARN", "degraded: ONNX Runtime took over"),
        change(6, "inference", "ERROR", "1 frame(s) failed; see the log"),
        change(CALM_S, "picture", "WARN", "stuck: 15 identical images"),
        change(CALM_S, "input", "WARN", "3 unusable image(s); see the log for the cause"),
    ],
)
def test_an_alarm_without_a_cause_is_wrong(alarm):
    well = DiagnosticChange(alarm.time_ns + SECOND_NS // 2, alarm.row, "OK", "well")
    assert failed(**with_changes(alarm, well)) == {"other alarms"}


def test_an_alarm_that_outlives_its_cause_is_wrong():
    lasting = [*START, *TIMEOUT, REPEATED[0], change(CALM_S, "picture")]
    assert failed(diagnostics=lasting) == {"other alarms"}


@pytest.mark.parametrize("task", ["rate", "deadline", "connection"])
def test_a_busy_machine_is_no_fault_of_the_node(task):
    assert failed(**with_changes(change(CALM_S, task, "WARN", "too slow"))) == set()


@pytest.mark.parametrize(("lost_s", "rows"), [(4, set()), (5, {"recovery after a fault"})])
def test_recovery_takes_seconds_at_most(lost_s, rows):
    end_ns = OFF.end_ns + lost_s * SECOND_NS
    assert failed(**without(lambda sent_ns: OFF.end_ns <= sent_ns < end_ns)) == rows


def test_a_long_run_has_the_limits_of_a_release():
    expect = scenario(3600.0).expect
    assert expect.recovery_s == {"fault": 1}
    assert expect.answered_percent == 50
    assert expect.leaks.memory_mib == 20
    assert expect.leaks.memory_mib_per_h == 1
    assert scenario().expect.leaks.memory_mib == 10
    assert scenario().expect.leaks.memory_mib_per_h is None


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_every_fault_of_a_transport_is_played(transport):
    faults = scenario(transport=transport).random_faults.faults
    assert (Fault.CORRUPT in faults) is (transport == "compressed")
    assert {Fault.OFF, Fault.STUCK, Fault.GARBAGE, Fault.BURST} < set(faults)


def test_a_node_that_falls_silent_has_not_recovered():
    silent = without(lambda sent_ns: sent_ns >= STUCK.begin_ns)
    assert "recovery after a fault" in failed(**silent)


def test_a_node_that_says_nothing_at_all_fails():
    rows = failed(answers=[], ages=[], diagnostics=[], states=[], log=[])
    assert {"recovery after a fault", "account of the node", "answers received"} <= rows
    assert {"age of the oldest result, ms", "answered", "alarms at the end"} <= rows
    assert {"state at the end"} <= rows


def test_good_frames_must_be_answered():
    few = without(lambda sent_ns: (sent_ns - BEGIN_NS) // PERIOD_NS % 20)
    assert failed(**few) == {"answered"}


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        '  File "node.py", line 1, in f',
        log_line("frame lost to a bug:", level="ERROR"),
        log_line("frame dropped (stamp): the stamp is 0", level="WARN"),
        log_line("degraded: the engine was lost", level="ERROR"),
        "Corrupt JPEG data: premature end of data segment",
    ],
)
def test_what_a_camera_does_not_explain_is_unexpected(line):
    assert failed(log=make_log(line)) == {"unexpected log lines"}


def test_no_cause_is_logged_more_than_once_in_5_seconds():
    again = log_line("frame dropped (layout): data has 6 bytes", 18.0, "WARN")
    assert failed(log=make_log(again)) == {"logged more than once in 5 s"}


def test_the_account_must_be_exact():
    line = make_log()[-1]
    account = read_account([line])
    assert account["malformed"] == 5
    assert is_balanced(account)
    for name in account:
        assert not is_balanced({**account, name: account[name] + 1})
    assert not is_balanced(read_account(["no account"]))
    assert "account of the node" in failed(log=[line.replace("superseded 0", "superseded 1")])
