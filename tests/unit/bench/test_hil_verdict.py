# SPDX-License-Identifier: Apache-2.0
"""Each check on made-up runs: one in which it holds, and one in which it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, Interval
from perception_node.bench.hil.calm import find_calm, find_outages
from perception_node.bench.hil.recorder import (
    DiagnosticChange,
    HilRecord,
    SentFrame,
    StateChange,
    StepDone,
)
from perception_node.bench.hil.scenario import (
    CameraPlan,
    DeviceUnderTest,
    DiagnosticDemand,
    Expectations,
    Scenario,
)
from perception_node.bench.hil.verdict import judge
from perception_node.rehearsal.heard import Result

MS_NS = 1_000_000
PERIOD_NS = 50 * MS_NS
BEGIN_NS = 7 * SECOND_NS
STAMP_NS = 1_700_000_000 * SECOND_NS
LABELS = ["cat", "dog", "cup"]
ACCOUNT = (
    "[INFO] [1.0] [perception]: frames: received {0} = published {1} + superseded 0 + stale 0 "
    "+ late 0 + malformed 0 + failed 0 + in flight {2}"
)


def scenario(**expect) -> Scenario:
    """A local node, a camera of 20 Hz for 10 s of which the first is not judged."""
    return Scenario(
        name="made up",
        description="",
        node=DeviceUnderTest(),
        camera=CameraPlan(rate_hz=20, seconds=10, warm_up_s=1),
        faults=(),
        random_faults=None,
        steps=(),
        expect=Expectations(**expect),
        given={},
    )


def at(seconds) -> int:
    """Return a moment of the run on the host's steady clock."""
    return BEGIN_NS + int(seconds * SECOND_NS)


def frame(number, fault=Fault.OK) -> SentFrame:
    sent_ns = BEGIN_NS + number * PERIOD_NS
    return SentFrame(STAMP_NS + number * PERIOD_NS, sent_ns, sent_ns, fault, number % 3)


def answer(number, latency_ms=10.0, label=None) -> Result:
    sent = frame(number)
    received_ns = sent.sent_ns + int(latency_ms * MS_NS)
    return Result(sent.stamp_ns, received_ns, label or LABELS[number % 3], 0.9)


def make_run(**fields) -> HilRecord:
    """A run of 10 s in which every frame is answered after 10 ms."""
    record = HilRecord(
        begin_ns=BEGIN_NS,
        end_ns=at(10),
        complete=True,
        sent=[frame(number) for number in range(200)],
        answers=[answer(number) for number in range(200)],
        states=[StateChange(at(-1), "active")],
        device={"deadline_ms": "100", "age_reference": "stamp"},
        log=[ACCOUNT.format(200, 200, 0)],
        exit_code=0,
    )
    return replace(record, **fields)


def without(record: HilRecord, begin_s, end_s) -> HilRecord:
    """The same, but frames sent in this time got no answer."""
    sent_ns = {f.stamp_ns: f.sent_ns for f in record.sent}
    kept = [a for a in record.answers if not at(begin_s) <= sent_ns[a.stamp_ns] < at(end_s)]
    return replace(record, answers=kept)


def find(name, demanded, record, golden=()):
    """Return the one check of this name."""
    found = [check for check in judge(demanded, record, golden) if check.name == name]
    assert len(found) == 1, found
    return found[0]


def change(seconds, row, level, message="m") -> DiagnosticChange:
    return DiagnosticChange(at(seconds), row, level, message)


def fault(word, begin_s, end_s) -> Interval:
    return Interval(word, at(begin_s), at(end_s))


def slow_answers(numbers, latency_ms) -> list[Result]:
    return [answer(n, latency_ms if n in numbers else 10.0) for n in range(200)]


STEPPED = [frame(number, Fault.CLOCK_STEP) for number in range(200)]
OFF, STUCK = fault(Fault.OFF, 3, 4), fault(Fault.STUCK, 3, 4)
KILLED = replace(
    without(make_run(), 3, 6),
    steps=[StepDone(at(3), "kill", 0.01, "")],
    states=[
        StateChange(at(-1), "active"),
        StateChange(at(5), "unreachable"),
        StateChange(at(6), "active"),
    ],
)
SWITCHED = replace(
    without(make_run(), 3, 5),
    steps=[StepDone(at(3), "deactivate", 0.1, ""), StepDone(at(4), "activate", 0.5, "")],
)
TIMEOUT = DiagnosticDemand("input", "ERROR", "Timeout", 1.0, "off")
ALARM = scenario(no_unexpected_alarms=True)
LOST = DiagnosticDemand("engine", "WARN", "took over")
WELL = [change(-1, row, "OK") for row in ("input", "engine")]

# Name of the check, scenario, a good run, a bad one, what is found in it.
CASES = {
    "host": (
        "camera of the host",
        scenario(),
        make_run(skipped=5),
        make_run(skipped=50),
        "20.0 % left out",
    ),
    "nothing sent": (
        "camera of the host",
        scenario(),
        make_run(),
        make_run(sent=[], answers=[]),
        "0 frames",
    ),
    "unknown answer": (
        "one answer to one frame",
        scenario(),
        make_run(),
        make_run(answers=[answer(999)]),
        "1 to unknown",
    ),
    "second answer": (
        "one answer to one frame",
        scenario(),
        make_run(),
        make_run(answers=[answer(5), answer(5)]),
        "1 second",
    ),
    "p50": (
        "latency p50",
        scenario(latency_ms={"p50": 11}),
        make_run(answers=slow_answers(range(80), 90)),
        make_run(answers=slow_answers(range(150), 90)),
        "90.",
    ),
    "max": (
        "latency max",
        scenario(latency_ms={"max": 11}),
        make_run(answers=slow_answers({3}, 90)),  # in the warm-up
        make_run(answers=slow_answers({30}, 90)),
        "90.",
    ),
    "no latency": (
        "latency p99",
        scenario(latency_ms={"p99": 11}),
        make_run(),
        make_run(answers=[]),
        "no answer",
    ),
    "missed": (
        "missed",
        scenario(missed_percent=1),
        make_run(answers=slow_answers({30}, 101)),
        make_run(answers=slow_answers({30, 50}, 101)),
        "1.11 % of 180",
    ),
    "own deadline": (
        "missed",
        scenario(missed_percent=0, deadline_ms=12),
        make_run(),
        make_run(answers=slow_answers({30}, 13)),
        "not within 12 ms",
    ),
    "answered": (
        "answered",
        scenario(answered_percent=99),
        make_run(answers=slow_answers({30}, 3000)),
        without(make_run(), 5, 5.1),
        "98.89 %",
    ),
    "held back": (
        "answered",
        scenario(answered_percent=100),
        make_run(held_back=[at(0.5)]),  # in the warm-up
        make_run(held_back=[at(5), at(5.1)]),
        "98.90 % of 182",
    ),
    "a fault is no excuse for later": (
        "answered",
        scenario(answered_percent=100),
        replace(without(make_run(), 3, 4.9), faults=[OFF]),
        replace(without(make_run(), 3, 5.1), faults=[OFF]),
        "98.",
    ),
    "nobody asked for this outage": (
        "answered",
        scenario(answered_percent=100),
        SWITCHED,
        replace(SWITCHED, steps=[]),
        "77.78 %",
    ),
    "never late": (
        "never late",
        scenario(never_late=True),
        make_run(answers=slow_answers({3}, 149)),
        make_run(answers=slow_answers({3}, 151)),
        "151.0 ms",
    ),
    "late by its stamp": (
        "never late",
        scenario(never_late=True),
        make_run(),
        make_run(sent=[f._replace(due_ns=f.due_ns - SECOND_NS) for f in make_run().sent]),
        "1010.0 ms",
    ),
    "clock step": (
        "never late",
        scenario(never_late=True),
        make_run(device={"age_reference": "arrival"}, sent=STEPPED),
        make_run(sent=STEPPED),
        "an hour off",
    ),
    "same labels": (
        "other label for the same picture",
        scenario(same_labels=True),
        make_run(),
        make_run(answers=[*make_run().answers[:-1], answer(199, label="fox")]),
        "1 of 180",
    ),
    "steps": (
        "steps",
        scenario(),
        SWITCHED,
        make_run(steps=[StepDone(at(3), "activate", 0.1, "refused")]),
        "activate: refused",
    ),
    "recovery after a fault": (
        "recovery after a fault",
        scenario(recovery_s={"fault": 0.2}),
        replace(without(make_run(), 3, 4.1), faults=[OFF]),
        replace(without(make_run(), 3, 4.3), faults=[OFF]),
        "0.31 s after off",
    ),
    "no recovery": (
        "recovery after a fault",
        scenario(recovery_s={"fault": 100}),
        replace(without(make_run(), 3, 9), faults=[OFF]),
        replace(without(make_run(), 3, 11), faults=[OFF]),
        "never after off",
    ),
    "recovery after activate": (
        "recovery after activate",
        scenario(recovery_s={"activate": 1.1}),
        SWITCHED,
        without(SWITCHED, 5, 5.2),
        "1.21 s",
    ),
    "recovery after kill": (
        "recovery after kill",
        scenario(recovery_s={"kill": 3.1}),
        KILLED,
        without(KILLED, 6, 6.2),
        "3.21 s",
    ),
    "diagnostics": (
        "/diagnostics input during off",
        scenario(diagnostics=(TIMEOUT,)),
        make_run(faults=[OFF], diagnostics=[change(3.9, "input", "ERROR", "Timeout: ...")]),
        make_run(faults=[OFF], diagnostics=[change(4.1, "input", "ERROR", "Timeout: ...")]),
        "0 of 1",
    ),
    "diagnostics each time": (
        "/diagnostics input during off",
        scenario(diagnostics=(replace(TIMEOUT, level="", contains=""),)),
        make_run(faults=[OFF], diagnostics=[change(1, "input", "WARN")]),  # still so
        make_run(faults=[OFF, fault(Fault.OFF, 6, 7)], diagnostics=[change(6.5, "input", "OK")]),
        "1 of 2",
    ),
    "diagnostics of another level": (
        "/diagnostics engine",
        scenario(diagnostics=(LOST,)),
        make_run(diagnostics=[change(5, "engine", "WARN", "CPU took over")]),
        make_run(diagnostics=[change(5, "engine", "ERROR", "CPU took over")]),
        "0 of 1",
    ),
    "an alarm": (
        "other alarms",
        ALARM,
        make_run(faults=[OFF], diagnostics=[*WELL, change(5.9, "input", "ERROR", "Timeout: x")]),
        make_run(faults=[OFF], diagnostics=[*WELL, change(3.5, "picture", "WARN", "stuck")]),
        "picture: stuck",
    ),
    "an alarm that a fault explains": (
        "other alarms",
        ALARM,
        make_run(
            faults=[fault(Fault.GARBAGE, 3, 4)],
            diagnostics=[*WELL, change(5.9, "input", "WARN", "3 unusable image(s)")],
        ),
        make_run(
            faults=[fault(Fault.GARBAGE, 3, 4)],
            diagnostics=[*WELL, change(6.1, "input", "WARN", "3 unusable image(s)")],
        ),
        "input: 3 unusable",
    ),
    "an alarm that a step explains": (
        "other alarms",
        ALARM,
        replace(SWITCHED, diagnostics=[change(4, "input", "WARN", "inactive")]),
        replace(SWITCHED, diagnostics=[change(8, "input", "WARN", "inactive")]),
        "input: inactive",
    ),
    "an alarm that is demanded": (
        "other alarms",
        scenario(no_unexpected_alarms=True, diagnostics=(LOST,)),
        make_run(diagnostics=[change(5, "engine", "WARN", "CPU took over")]),
        make_run(diagnostics=[change(5, "engine", "ERROR", "no engine is left")]),
        "engine: no engine",
    ),
    "an alarm that is demanded at another time": (
        "other alarms",
        scenario(
            no_unexpected_alarms=True, diagnostics=(replace(LOST, within_s=1, during="stuck"),)
        ),
        make_run(faults=[STUCK], diagnostics=[change(3.5, "engine", "WARN", "CPU took over")]),
        make_run(faults=[STUCK], diagnostics=[change(8, "engine", "WARN", "CPU took over")]),
        "engine: CPU took over",
    ),
    "an alarm is left": (
        "alarms at the end",
        ALARM,
        make_run(diagnostics=[change(5, "picture", "WARN"), change(6, "picture", "OK")]),
        make_run(diagnostics=[change(5, "picture", "WARN")]),
        "picture",
    ),
    "state": (
        "state at the end",
        scenario(),
        KILLED,
        make_run(states=[StateChange(at(-1), "active"), StateChange(at(9), "unreachable")]),
        "unreachable",
    ),
    "process": (
        "the process ended by itself",
        scenario(),
        make_run(),
        make_run(unexpected_ends=1),
        "1 times",
    ),
    "exit code": (
        "exit code",
        scenario(exit_code=0),
        make_run(),
        make_run(exit_code=-11),
        "-11",
    ),
    "account": (
        "account of the node",
        scenario(account_exact=True),
        make_run(),
        make_run(log=[ACCOUNT.format(200, 199, 1)]),
        "in flight 1",
    ),
    "no account": (
        "account of the node",
        scenario(account_exact=True),
        make_run(),
        make_run(log=[]),
        "none",
    ),
    "answers lost": (
        "answers received",
        scenario(account_exact=True),
        make_run(),
        without(make_run(), 1, 1.05),
        "199",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_check_holds_in_a_good_run_and_not_in_a_bad_one(case):
    name, demanded, good, bad, found = CASES[case]
    passed = find(name, demanded, good)
    assert passed.is_ok, passed
    failed = find(name, demanded, bad)
    assert not failed.is_ok, failed
    assert found in failed.found


def test_the_golden_labels_are_those_of_the_pictures(tmp_path):
    demanded = scenario(golden=tmp_path / "golden.jsonl", agreement_percent=60)
    name = "labels of the golden file"
    assert find(name, demanded, make_run(), LABELS).is_ok
    assert find(name, demanded, make_run(), ["cat", "dog", "fox"]).is_ok  # two of three
    failed = find(name, demanded, make_run(), ["cat", "fox", "fox"])
    assert not failed.is_ok
    assert failed.found == "33.3 % of 180 answers; picture 2: cup, not fox"


def test_a_run_as_it_should_be_fails_in_nothing():
    assert [check for check in judge(scenario(), make_run()) if not check.is_ok] == []


def test_nothing_is_demanded_that_the_scenario_does_not_say():
    names = {check.name for check in judge(scenario(), make_run())}
    assert names == {
        "camera of the host",
        "one answer to one frame",
        "state at the end",
        "the process ended by itself",
    }


def test_an_interrupted_run_is_judged_by_what_there_is():
    demanded = scenario(
        exit_code=0, account_exact=True, latency_ms={"p50": 20}, diagnostics=(TIMEOUT,)
    )
    seen = change(3.5, "input", "ERROR", "Timeout: x")
    part = make_run(faults=[OFF, fault(Fault.OFF, 8, 9)], diagnostics=[seen])
    part = replace(part, complete=False, end_ns=at(5), exit_code=None, log=[])
    part = replace(part, sent=part.sent[:100], answers=part.answers[:100])
    assert [check for check in judge(demanded, part) if not check.is_ok] == []


def test_a_device_that_is_down_on_purpose_need_not_be_active_at_the_end():
    down = make_run(
        steps=[StepDone(at(8), "deactivate", 0.1, "")],
        states=[StateChange(at(-1), "active"), StateChange(at(8.1), "inactive")],
    )
    assert all(check.name != "state at the end" for check in judge(scenario(), down))


def test_a_remote_device_has_no_process_to_judge():
    remote = replace(scenario(), node=DeviceUnderTest(start="none", respawn=False))
    assert all("process" not in check.name for check in judge(remote, make_run()))


def test_outages_are_from_the_first_step_down_until_it_is_active_again():
    assert find_outages(SWITCHED) == [(at(3), at(4.5))]
    assert find_outages(KILLED) == [(at(3), at(6))]
    configured = replace(
        KILLED, steps=[*KILLED.steps, StepDone(at(5), "activate", 2, "")], states=[]
    )
    assert find_outages(configured) == [(at(3), at(7))]
    assert find_outages(replace(KILLED, states=[])) == [(at(3), at(10))]
    assert find_outages(make_run(steps=[StepDone(at(3), "cleanup", 0.1, "refused")])) == []


def test_a_device_that_a_step_activates_is_out_until_then():
    activate = StepDone(at(2), "activate", 0.5, "")
    idle = make_run(states=[StateChange(at(-1), "inactive"), StateChange(at(2.4), "active")])
    assert find_outages(replace(idle, steps=[activate])) == [(at(0), at(2.5))]
    assert find_outages(idle) == []  # nobody said that it would be idle


def test_calm_frames_are_away_from_warm_up_faults_and_outages():
    record = replace(SWITCHED, faults=[fault(Fault.STUCK, 7, 7.5)])
    calm = find_calm(scenario(), record)
    sent_s = [(f.sent_ns - BEGIN_NS) / SECOND_NS for f in record.sent]
    quiet = [s for s, is_calm in zip(sent_s, calm, strict=True) if is_calm]
    assert quiet == [
        s
        for s in sent_s
        if 1 <= s < 2.9 or 5.5 <= s < 6.9 or s >= 8.5  # deadline before
    ]


def test_a_fault_during_an_outage_or_at_the_very_end_awaits_no_recovery():
    limits = scenario(recovery_s={"fault": 0.1})
    for word, record in (
        ("in an outage", replace(SWITCHED, faults=[fault(Fault.STUCK, 3.5, 4)])),
        ("at the end", make_run(faults=[fault(Fault.STUCK, 9, 10)])),
    ):
        names = [check.name for check in judge(limits, record)]
        assert "recovery after a fault" not in names, word
