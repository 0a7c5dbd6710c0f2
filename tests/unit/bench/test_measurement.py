# SPDX-License-Identifier: Apache-2.0
"""Reports come back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import copy
import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_node.bench.reporting.durations import Durations, most_above
from perception_node.bench.reporting.measurement import Case, Report, Run, Timeline, read_report
from perception_node.bench.reporting.merging import merge_reports
from perception_node.errors import ConfigError
from tests.bench_builders import MACHINE, make_node_case, make_report, make_startup_case

DURATIONS = st.lists(st.integers(0, 10_000_000_000), max_size=5).map(Durations)
AMOUNTS = st.floats(0, 1e6)
TIMELINES = st.lists(st.tuples(AMOUNTS, AMOUNTS | st.just(math.nan)), max_size=5).map(
    lambda frames: Timeline([time_s for time_s, _ in frames], [age for _, age in frames])
)
RUNS = st.builds(
    Run,
    subject=st.text(min_size=1),
    stages=st.dictionaries(st.text(), DURATIONS, max_size=2),
    counts=st.dictionaries(st.text(), st.integers(0, 10**9), max_size=2),
    resources=st.dictionaries(st.text(), AMOUNTS, max_size=2),
    timeline=TIMELINES,
    remarks=st.lists(st.text(), max_size=2).map(tuple),
)
LOADS = st.one_of(
    st.just({}), st.builds(lambda name, hz: {"name": name, "hz": hz}, st.text(), AMOUNTS)
)
CASES = st.builds(
    Case, st.sampled_from(["engine", "pipeline", "node"]), LOADS, st.lists(RUNS, max_size=2)
)
REPORTS = st.builds(
    Report,
    command=st.lists(st.text(), max_size=2),
    started_utc=st.just("2026-11-22T20:00:00+00:00"),
    deadline_ms=st.floats(0.1, 1e5),
    model=st.dictionaries(st.text(), st.text(), max_size=2),
    machine=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())),
    warnings=st.lists(st.text(), max_size=2),
    cases=st.lists(CASES, max_size=2),
    complete=st.booleans(),
)


SERIALIZED = make_report(make_node_case(frames=3, repetitions=1)).to_json().encode()


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def small_report():
    case = make_node_case(frames=3, repetitions=1)
    case.runs[1].timeline.ages_ms[1] = math.nan
    return json.loads(make_report(case, make_startup_case(), warnings=["hot [x]"]).to_json())


@settings(max_examples=50)
@given(report=REPORTS)
def test_a_report_comes_back_as_it_was_written(tmp_path, report):
    text = report.to_json()
    found = read_report(write(tmp_path / "report.json", text))
    assert found.to_json() == text
    for case, before in zip(found.cases, report.cases, strict=True):
        for run, was in zip(case.runs, before.runs, strict=True):
            assert [s.encode() for s in run.stages.values()] == [
                s.encode() for s in was.stages.values()
            ]
            lost = [math.isnan(age) for age in was.timeline.ages_ms]
            assert [math.isnan(age) for age in run.timeline.ages_ms] == lost


def test_percentiles_survive(tmp_path):
    report = make_report(make_node_case(frames=200, repetitions=2))
    found = read_report(write(tmp_path / "r.json", report.to_json())).cases[0]
    stage = ("node", "end to end")
    assert found.merged(*stage).summarize() == report.cases[0].merged(*stage).summarize()
    assert found.name == "node, 640x480 bgr8 raw at 30 Hz"
    assert found.subjects == ("bare", "node", "naive", "floor")


def list_places(data, place=()):
    """Yield the keys to everything in a report whose form the schema lays down."""
    if place:
        yield place
    is_free = place[-1:] in [("machine",), ("model",), ("load",)]
    if isinstance(data, dict) and not is_free:
        for key, value in data.items():
            yield from list_places(value, (*place, key))
    if isinstance(data, list):
        for index, value in enumerate(data):
            yield from list_places(value, (*place, index))


def to_kind(place):
    """Replace numbers and names that anybody may choose: places of one kind are alike."""
    kind = ["#" if isinstance(key, int) else key for key in place]
    for position, key in enumerate(kind[:-1]):
        if key in NAMED:
            kind[position + 1] = "*"
    return tuple(kind)


def change(place, value=None, *, drop=False):
    data = copy.deepcopy(SMALL)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    if drop:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(data)


def read_value(place):
    value = SMALL
    for key in place:
        value = value[key]
    return value


NAMED = ("stages", "counts", "resources")  # their keys are free
SMALL = small_report()
PLACES = list({to_kind(place): place for place in list_places(SMALL)}.values())
WRONG = {str: (5, None, []), list: (5, "x", {}), dict: (5, "x", [])}
KEYS = [p for p in PLACES if isinstance(p[-1], str) and to_kind(p)[-1] != "*"]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_field_of_another_type_is_one_line(tmp_path, place):
    for value in WRONG.get(type(read_value(place)), ("x", [], {"a": 1}, 1e300)):
        path = write(tmp_path / "r.json", change(place, value))
        with pytest.raises(ConfigError) as error:
            read_report(path)
        assert str(error.value).startswith(f"{path}: {place[0]}")
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < len(str(path)) + 250


@pytest.mark.parametrize("place", KEYS, ids=lambda place: ".".join(map(str, place)))
def test_a_missing_field_is_named(tmp_path, place):
    path = write(tmp_path / "r.json", change(place, drop=True))
    with pytest.raises(ConfigError, match=str(place[-1])):
        read_report(path)


STAGE = ("cases", 0, "runs", 0, "stages", "infer")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("version",), 2, "'2' is not known; this perception_node reads version 1"),
        (("format",), "other", "not a report of perception bench"),
        (("unknown",), 1, "'unknown' was unexpected"),
        (("cases", 0, "level"), "car", "is not one of"),
        (("cases", 0, "load"), {}, None),
        (("cases", 0, "load"), {"rate_hz": 30}, "cases.0.load"),
        (("deadline_ms",), 0, "deadline_ms"),
        (("started_utc",), "yesterday", "started_utc"),
        ((*STAGE, "histogram"), "AAAA", "stages.infer.histogram: not an HdrHistogram"),
        ((*STAGE, "count"), 4, "count: 4, but the histogram holds 3"),
        ((*STAGE, "p99_ms"), None, "p99_ms: null"),
        ((*STAGE, "max_ms"), -1, "max_ms"),
        (("cases", 0, "runs", 1, "timeline", "ages_ms"), [1.0], "1 ages for 3 times"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, place, value, words):
    path = write(tmp_path / "r.json", change(place, value))
    if words is None:
        read_report(path)
        return
    with pytest.raises(ConfigError) as error:
        read_report(path)
    assert words in str(error.value)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "not a report"),
        (b"\xff\xfe", "not JSON"),
        (b'{"format": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_another_file_is_no_report(tmp_path, content, words):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_report(path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_report(tmp_path / "none.json")


@settings(max_examples=100)
@given(data=st.data())
def test_damage_is_never_another_exception(tmp_path, data):
    content = bytearray(SERIALIZED)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with suppress(ConfigError):
        read_report(path)


def test_ages_lie_on_one_line_and_words_stay_as_they_are(tmp_path):
    case = make_node_case(frames=300, repetitions=1)
    text = make_report(case, warnings=["a  [b   c]  d"]).to_json()
    assert len(text.splitlines()) < 700
    assert read_report(write(tmp_path / "r.json", text)).warnings == ["a  [b   c]  d"]


def test_runs_of_equal_loads_add_up():
    first, second = (make_report(make_node_case(frames=9, seed=seed)) for seed in (1, 2))
    other = make_report(make_node_case((1280, 720), frames=10, repetitions=1))
    merged = merge_reports([first, second, other])
    assert [case.name for case in merged.cases] == [first.cases[0].name, other.cases[0].name]
    assert len(merged.cases[0].of("node")) == 6
    assert len(merged.cases[0].merged("node", "infer")) == 54
    assert len(first.cases[0].of("node")) == 3  # as it was
    assert merged.machine == MACHINE
    assert merged.complete


def test_what_differs_is_kept_by_report():
    machine = {**MACHINE, "cpu": "Cortex-A78AE", "load_average": 0.5}
    first = make_report(make_node_case(frames=3), warnings=["hot", "loaded"])
    second = make_report(make_node_case(frames=3), warnings=["hot"], machine=machine)
    merged = merge_reports([first, second])
    assert "cpu" not in merged.machine
    assert [part["cpu"] for part in merged.machine["parts"]] == ["AMD EPYC", "Cortex-A78AE"]
    assert merged.machine["cores"] == 2
    assert merged.warnings == [
        "merged from different machines: AMD EPYC, 2 cores; Cortex-A78AE, 2 cores",
        "hot",
        "report 1: loaded",
    ]


def test_a_partial_report_stays_partial():
    reports = [make_report(make_startup_case(), complete=complete) for complete in (True, False)]
    assert not merge_reports(reports).complete


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"deadline_ms": 50.0}, "different deadlines"),
        ({"model": {"name": "other", "sha256": "cd"}}, "different models"),
    ],
)
def test_what_cannot_be_merged_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        merge_reports(
            [make_report(make_startup_case()), make_report(make_startup_case(), **fields)]
        )
    with pytest.raises(ConfigError, match="no report"):
        merge_reports([])


@pytest.mark.parametrize(
    ("count", "percent", "above"),
    [(458, 99, None), (459, 99, 0), (662, 99, 1), (838, 99, 2), (1000, 99, 2), (10_000, 99.9, 2)],
)
def test_a_bound_needs_as_many_frames_as_the_binomial_rule_says(count, percent, above):
    assert most_above(count, percent) == above


def test_the_bound_holds_as_often_as_it_claims():
    source = np.random.default_rng(5)
    true_ms = -np.log(0.01)  # p99 of an exponential distribution
    held = [
        Durations((source.exponential(1.0, 1000) * 1e6).astype(int)).upper_bound_ms(99) >= true_ms
        for _ in range(200)
    ]
    assert np.mean(held) >= 0.97


def test_the_distribution_is_what_was_added():
    values_ms, counts = Durations([2_000_000, 5_000_000, 5_000_000]).distribution()
    assert values_ms == pytest.approx([2.0, 5.0], rel=1e-3)
    assert list(counts) == [1, 2]
    assert Durations().distribution()[0].size == 0
