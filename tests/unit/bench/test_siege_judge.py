# SPDX-License-Identifier: Apache-2.0
"""A siege that held passes; each thing that can be wrong with one fails its own row."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace

import pytest

from perception_node.bench.node_log import judge_tracebacks
from perception_node.bench.process_watch import ProcessSample
from perception_node.bench.siege.judge import OF_ROS, judge
from perception_node.bench.siege.record import SECOND_NS, Ended, Phase, SiegeRecord, Subject
from perception_node.flow.accounts import FrameCounts
from tests.builders import START_NS

DEADLINE_MS = 250.0
END_NS = START_NS + 60 * SECOND_NS
PHASES = [
    Phase(("images",), START_NS + 10 * SECOND_NS, START_NS + 20 * SECOND_NS),
    Phase(("load", "bursts"), START_NS + 30 * SECOND_NS, START_NS + 45 * SECOND_NS),
]
PERIOD_NS = SECOND_NS // 10


def seconds(begin_s, end_s):
    return START_NS + int(begin_s * SECOND_NS), START_NS + int(end_s * SECOND_NS)


def answers(*lost):
    """Return moments of answers, ten a second, but in the lost spans of (begin s, end s)."""
    spans = [seconds(*span) for span in lost]
    moments = range(START_NS, END_NS, PERIOD_NS)
    return array("q", [t for t in moments if not any(a <= t < b for a, b in spans)])


def line(text):
    return f"[INFO] [12.000000000] [raw.perception]: {text}"


def account(**changes):
    counts = {"received": 610, "published": 600, "malformed": 10}
    return line(f"frames: {FrameCounts(**{**counts, **changes})}")


def samples(**last):
    """Return a look each second; ``last`` are other values from the last attack on."""
    usual = ProcessSample(0.0, 150.0, 30.0, 25, 19)
    moments = range(START_NS, END_NS, SECOND_NS)
    return [(t, usual._replace(**last) if t > PHASES[-1].end_ns else usual) for t in moments]


def make_record(**changes):
    subject = Subject(
        name="node /raw/perception",
        answers_ns=answers(),
        samples=samples(),
        calm_mib=250.0,
        peaks=[(PHASES[0], 300.0), (PHASES[1], 280.0)],
        exit_code=0,
        log=[line("active: waiting for images on /raw/image"), account()],
        frames=True,
        published=600,
        ages_ms=array("d", [20.0] * 600),
        deadline_ms=DEADLINE_MS,
    )
    subjects = [replace(subject, **changes)]
    return SiegeRecord(begin_ns=START_NS, end_ns=END_NS, phases=PHASES, subjects=subjects)


def rows_of(record):
    return [row for rows in judge(record).values() for row in rows]


def failed(record):
    return {row.name for row in rows_of(record) if not row.is_ok}


def test_a_siege_that_held_passes():
    assert failed(make_record()) == set()


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("exit", {"exit_code": 1}),
        ("exit", {"exit_code": -9}),
        ("exit", {"exit_code": None}),
        ("exit", {"ended": Ended(START_NS + 33 * SECOND_NS, -11, "model runs")}),
        ("memory, MiB", {"peaks": [(PHASES[0], 376.0), (PHASES[1], 280.0)]}),
        ("memory, MiB", {"peaks": []}),
        ("descriptors", {"samples": samples(descriptors=28)}),
        ("threads", {"samples": samples(threads=22)}),
        ("answers", {"wrong": Counter({"with another label": 1})}),
        ("answers", {"wrong": Counter({"to a damaged picture (JPEG, half)": 1})}),
        ("account", {"log": [account(received=611)]}),
        ("account", {"log": [account(received=611), account()]}),
        ("results heard", {"published": 601}),
        ("age of the oldest result, ms", {"ages_ms": array("d", [20.0, 250.1])}),
        ("age of the oldest result, ms", {"ages_ms": array("d")}),
        ("lines of log per minute", {"log": [account()] * 301}),
        ("lines of log per minute", {"log": ["x" * 2001, account()]}),
        ("tracebacks", {"log": ["Traceback (most recent call last):", account()]}),
    ],
)
def test_each_wrong_thing_has_its_row(row, changes):
    assert failed(make_record(**changes)) == {row}


def test_the_first_bug_is_named():
    first = [
        "[ERROR] [1.0] [perception]: frame of /image lost to a bug:",
        "  Traceback (most recent call last):",
        '    File "loop.py", line 1, in <module>',
        "  RuntimeError: it was destroyed",
        "[INFO] [2.0] [perception]: active",
    ]
    for margin in ("", "  "):
        second = [f"{margin}Traceback (most recent call last):", f"{margin}KeyError: 1"]
        found = judge_tracebacks("tracebacks", [*first, *second])
        assert (found.found, found.is_ok) == ("2: RuntimeError: it was destroyed", False)
    assert judge_tracebacks("tracebacks", ["Segmentation fault"]).found == "1: Segmentation fault"


@pytest.mark.parametrize(
    "lost",
    [(2, 4), (23.5, 25), (28, 32), (44, 50), (48, 60)],
    ids=["at first", "after an attack", "before one", "long after", "to the end"],
)
def test_silence_in_calm_is_seen(lost):
    assert failed(make_record(answers_ns=answers(lost))) == {"longest silence in calm"}


@pytest.mark.parametrize(
    "lost",
    [(10, 23), (30, 48), (2.05, 2.95), (9.2, 20)],
    ids=["attack", "attack and recovery", "less than a second", "just before"],
)
def test_silence_under_attack_and_just_after_is_none(lost):
    assert failed(make_record(answers_ns=answers(lost))) == set()


def test_a_row_names_the_attack_after_which_it_happened():
    rows = rows_of(make_record(answers_ns=answers((50, 55))))
    found = next(row.found for row in rows if "silence" in row.name)
    assert found.endswith("after load + bursts")
    ended = Ended(START_NS + 33 * SECOND_NS, -11, "last words")
    found = next(row.found for row in rows_of(make_record(ended=ended)) if "exit" in row.name)
    assert "code -11 after 33 s" in found
    assert "load + bursts: last words" in found


def test_what_the_type_support_of_ros_prints_itself_does_not_count():
    assert failed(make_record(log=[*([OF_ROS[0]] * 900), account()])) == set()
    assert failed(make_record(log=[*(["[WARN] a line of ours"] * 301), account()])) != set()


def test_who_answers_nothing_is_silent():
    rows = failed(make_record(answers_ns=array("q")))
    assert rows == {"longest silence in calm", "answers"}


def test_time_in_which_nobody_could_ask_is_no_silence_but_has_a_limit():
    held = make_record(answers_ns=answers((4, 8)), held_up=[seconds(4.5, 8)])
    assert failed(held) == set()
    too_long = make_record(answers_ns=answers((1, 10)), held_up=[seconds(1, 10)])
    assert failed(too_long) == {"calm time that cannot be judged"}
    partly = make_record(answers_ns=answers((4, 8)), held_up=[seconds(4, 5)])
    assert failed(partly) == {"longest silence in calm"}


def test_others_that_take_the_processors_are_no_silence_of_the_node_but_have_a_limit():
    record = make_record(answers_ns=answers((4, 8)), held_up=[seconds(4, 6)])
    record.busy = [seconds(5, 7.5)]
    assert failed(record) == set()
    record.busy = [seconds(0, 9)]
    assert failed(record) == {"calm time that cannot be judged"}


def test_shared_segments_that_others_fill_are_not_its_memory():
    grown = {"samples": samples(shared_mib=70.0), "peaks": [(PHASES[1], 410.0)]}
    assert failed(make_record(**grown)) == set()
    assert failed(make_record(**{**grown, "peaks": [(PHASES[1], 416.0)]})) == {"memory, MiB"}


def test_a_server_has_no_account():
    record = make_record(frames=False, log=[], published=0, ages_ms=array("d"))
    assert failed(record) == set()


def test_an_attack_that_was_not_made_proves_nothing():
    record = make_record()
    record.broken.append("images: ValueError: no")
    assert failed(record) == {"attacks that went wrong"}


def test_without_a_calm_second_nothing_was_shown():
    record = make_record()
    record.phases = [Phase(("images",), START_NS, END_NS)]
    assert "calm seconds that were judged" in failed(record)
