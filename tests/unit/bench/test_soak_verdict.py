# SPDX-License-Identifier: Apache-2.0
"""A good run passes; each thing that can be wrong with one fails its own row."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, FaultSchedule, Interval
from perception_node.bench.process_watch import ProcessSample
from perception_node.bench.soak.log import is_balanced, read_account
from perception_node.bench.soak.record import Alarm, SoakRecord
from perception_node.bench.soak.verdict import SoakRun, judge
from perception_node.flow.accounts import FrameCounts
from tests.builders import START_NS

PERIOD_NS, PICTURES, DEADLINE_MS = SECOND_NS // 20, 4, 150.0
FRAMES = 20 * 20
AGE_NS = 15_000_000
BURST = Interval(Fault.BURST, START_NS + 2 * SECOND_NS, START_NS + 4 * SECOND_NS)
OFF = Interval(Fault.OFF, START_NS + 6 * SECOND_NS, START_NS + 8 * SECOND_NS)
STUCK = Interval(Fault.STUCK, START_NS + 12 * SECOND_NS, START_NS + 14 * SECOND_NS)
SCHEDULE = FaultSchedule(START_NS, START_NS + 20 * SECOND_NS, [BURST, OFF, STUCK])
TIMEOUT = Alarm(OFF.end_ns, "input", 2, "Timeout: no image for 1.2 s")
REPEATED = Alarm(STUCK.end_ns + SECOND_NS // 2, "picture", 1, "stuck: 15 identical images")
CALM_NS = START_NS + 17 * SECOND_NS
WELL = ("input", "picture", "engine", "inference", "process", "rate", "deadline", "connection")


def log_line(text, time_s=1.0, level="INFO"):
    return f"[{level}] [{time_s:.9f}] [perception]: {text}"


def stamps():
    every = (START_NS + number * PERIOD_NS for number in range(FRAMES))
    return [stamp_ns for stamp_ns in every if SCHEDULE.at(stamp_ns).fault is not Fault.OFF]


PUBLISHED = len(stamps())


def make_record(**changes):
    numbers = [(stamp_ns - START_NS) // PERIOD_NS for stamp_ns in stamps()]
    record = SoakRecord(
        stamps_ns=array("q", stamps()),
        arrivals_ns=array("q", [stamp_ns + AGE_NS for stamp_ns in stamps()]),
        classes=array("q", [100 + number % PICTURES for number in numbers]),
        aged_stamps_ns=array("q", stamps()),
        ages_ms=array("d", [AGE_NS / 1e6] * PUBLISHED),
        alarms=[TIMEOUT, REPEATED],
        last_levels=dict.fromkeys(WELL, 0),
    )
    return replace(record, **changes)


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


def make_run(**changes):
    samples = [ProcessSample(float(time_s), 150.0, 36.0, 31, 18) for time_s in range(20)]
    run = SoakRun(
        schedule=SCHEDULE,
        period_ns=PERIOD_NS,
        pictures=PICTURES,
        deadline_ms=DEADLINE_MS,
        sent_ok=FRAMES - 120,
        record=make_record(),
        samples=samples,
        log=make_log(),
        was_active=True,
        exit_code=0,
    )
    return replace(run, **changes)


def failed(**changes):
    return {row.what for row in judge(make_run(**changes)) if not row.is_ok}


def changed(name, place, value):
    """Return a record with one value of one list changed."""
    values = getattr(make_record(), name)[:]
    values[place] = value
    return make_record(**{name: values})


def without(is_lost):
    """Return a record and a log without the results that were lost."""
    record = make_record()
    kept = [place for place, stamp_ns in enumerate(record.stamps_ns) if not is_lost(stamp_ns)]
    lists = {
        name: array("q", [getattr(record, name)[place] for place in kept])
        for name in ("stamps_ns", "arrivals_ns", "classes")
    }
    return {"record": replace(record, **lists), "log": make_log(published=len(kept))}


def test_a_good_run_passes():
    assert failed() == set()


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("exit code", {"exit_code": -9}),
        ("active at the end", {"was_active": False}),
        ("age of the oldest result, ms", {"record": changed("ages_ms", 7, 150.1)}),
        (
            "age of the oldest result, ms",
            {"record": make_record(ages_ms=array("d"), aged_stamps_ns=array("q"))},
        ),
        ("results received", {"log": make_log(published=PUBLISHED + 1)}),
        ("other class for the same picture", {"record": changed("classes", -1, 7)}),
        ("faults that /diagnostics named", {"record": make_record(alarms=[TIMEOUT])}),
        ("faults that /diagnostics named", {"record": make_record(alarms=[REPEATED])}),
        ("alarms at the end", {"record": make_record(last_levels={})}),
        (
            "alarms at the end",
            {"record": make_record(last_levels={**dict.fromkeys(WELL, 0), "picture": 1})},
        ),
    ],
)
def test_each_wrong_thing_has_its_row(row, changes):
    assert failed(**changes) == {row}


@pytest.mark.parametrize(
    "alarm",
    [
        Alarm(CALM_NS, "engine", 1, "degraded: ONNX Runtime took over"),
        Alarm(OFF.begin_ns, "inference", 2, "1 frame(s) failed; see the log"),
        Alarm(CALM_NS, "picture", 1, "stuck: 15 identical images"),
        Alarm(CALM_NS, "input", 1, "3 unusable image(s); see the log for the cause"),
    ],
)
def test_an_alarm_without_a_cause_is_wrong(alarm):
    assert failed(record=make_record(alarms=[TIMEOUT, REPEATED, alarm])) == {"other alarms"}


@pytest.mark.parametrize("task", ["rate", "deadline", "connection"])
def test_a_busy_machine_is_no_fault_of_the_node(task):
    alarm = Alarm(CALM_NS, task, 1, "too slow")
    assert failed(record=make_record(alarms=[TIMEOUT, REPEATED, alarm])) == set()


@pytest.mark.parametrize(("lost_s", "rows"), [(4, set()), (5, {"longest recovery, s"})])
def test_recovery_takes_seconds_at_most(lost_s, rows):
    end_ns = OFF.end_ns + lost_s * SECOND_NS
    assert failed(**without(lambda stamp_ns: OFF.end_ns <= stamp_ns < end_ns)) == rows


def test_a_long_run_has_the_limits_of_a_release():
    hour = FaultSchedule(START_NS, START_NS + 3600 * SECOND_NS, [BURST, OFF, STUCK])
    limits = {row.what: row.limit for row in judge(make_run(schedule=hour))}
    assert limits["longest recovery, s"] == "at most 1"
    assert limits["answers while nothing is wrong"] == "at least 50%"


def test_a_node_that_falls_silent_has_not_recovered():
    rows = failed(**without(lambda stamp_ns: stamp_ns >= STUCK.begin_ns))
    assert rows == {"recovery"}


def test_a_node_that_says_nothing_at_all_fails():
    rows = failed(record=SoakRecord(), log=[])
    assert {"recovery", "account", "results received", "age of the oldest result, ms"} <= rows
    assert {"answers while nothing is wrong", "alarms at the end"} <= rows


def test_good_frames_must_be_answered():
    few = without(lambda stamp_ns: (stamp_ns - START_NS) // PERIOD_NS % 20)
    assert failed(**few) == {"answers while nothing is wrong"}


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
    assert "account" in failed(log=[line.replace("superseded 0", "superseded 1")])
