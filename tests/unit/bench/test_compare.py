# SPDX-License-Identifier: Apache-2.0
"""A regression is found, noise is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perception_node.bench.reporting.compare import compare, find_caveats, parse_max_regression
from perception_node.bench.reporting.measurement import Case
from perception_node.errors import ConfigError
from tests.bench_builders import (
    MACHINE,
    make_level_case,
    make_load,
    make_node_case,
    make_node_run,
    make_report,
    make_startup_case,
)

P50, P99 = "end to end p50, ms", "end to end p99, ms"
CPU, MISSED = "CPU per frame, ms", "frames missed, %"


def make_runs(seed, factors, **fields):
    """Return a report with a run of the node for each factor on its times."""
    source = np.random.default_rng(seed)
    runs = [make_node_run(source, frames=400, slower=factor, **fields) for factor in factors]
    return make_report(Case("node", make_load(), runs))


def regressions(before, after, max_regression=0.05):
    found = compare(before, after, max_regression)
    return {difference.figure for difference in found if difference.is_regression}


def figure(differences, name, subject="node"):
    return next(d for d in differences if (d.figure, d.subject) == (name, subject))


@pytest.mark.parametrize("runs", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_noise_is_no_regression(runs, spread):
    source = np.random.default_rng(runs)
    wrong = 0
    for seed in range(4):
        factors = np.exp(source.normal(0, spread, (2, runs)))
        wrong += bool(
            regressions(make_runs(2 * seed, factors[0]), make_runs(2 * seed + 1, factors[1]))
        )
    assert wrong <= 1


@pytest.mark.parametrize("runs", [2, 3])
def test_ten_percent_are_found(runs):
    for seed in range(3):
        before, after = make_runs(2 * seed, [1.0] * runs), make_runs(2 * seed + 1, [1.1] * runs)
        assert {P50, CPU} <= regressions(before, after)
        change = figure(compare(before, after, 0.05), P50)
        assert change.low < 0.1 < change.high
        assert change.change == pytest.approx(0.1, abs=0.03)
        assert regressions(before, after, 0.2) == set()
        assert regressions(after, before) == set()
        assert figure(compare(after, before, 0.05), P50).verdict == "less"


def test_two_runs_that_differ_as_much_as_the_change_prove_nothing():
    before, after = make_runs(1, [1.0, 1.1]), make_runs(2, [1.1, 1.2])
    change = figure(compare(before, after, 0.05), P50)
    assert change.change > 0.05
    assert change.low < 0 < change.high
    assert not change.is_regression


def test_the_same_twice_is_no_difference():
    report = make_runs(3, [1.0, 1.01])
    for difference in compare(report, report, 0.0):
        assert difference.change == pytest.approx(0.0)
        assert not difference.is_regression


def test_the_answer_does_not_depend_on_chance():
    reports = make_runs(4, [1.0, 1.0]), make_runs(5, [1.02, 1.02])
    assert compare(*reports, 0.05) == compare(*reports, 0.05)


def test_lost_frames_are_a_regression():
    before, after = make_runs(6, [1.0] * 3), make_runs(7, [1.0] * 3, lost=12)
    assert regressions(before, after) == {MISSED}
    change = figure(compare(before, after, 0.05), MISSED)
    assert (change.before, change.after) == pytest.approx((0.0, 0.03))
    assert regressions(before, make_runs(8, [1.0] * 3, lost=2)) == set()  # half a percent


def test_frames_over_the_deadline_are_missed():
    before, after = make_runs(6, [1.0] * 2), make_runs(7, [3.1] * 2)
    assert MISSED in regressions(before, after)
    assert figure(compare(before, after, 0.05), MISSED).after > 0.5


def test_baselines_are_shown_but_not_judged():
    before = make_report(make_node_case(frames=300, repetitions=2, seed=1))
    slow = make_node_case(frames=300, repetitions=2, seed=2, slower=1.3)
    slow.runs = [
        run if run.subject != "node" else before.cases[0].of("node")[0] for run in slow.runs
    ]
    differences = compare(before, make_report(slow), 0.05)
    assert figure(differences, P50, "naive").change > 0.2
    assert figure(differences, P50, "naive").verdict.endswith("(not judged)")
    assert figure(differences, "infer p50, ms", "bare").is_regression is False
    assert not any(difference.is_regression for difference in differences)


@pytest.mark.parametrize(
    ("case", "slow", "name"),
    [
        (make_startup_case(), make_startup_case((2.9, 3.0, 3.1)), "start to active p50, ms"),
        (
            make_level_case("engine", "bare", {"infer": 9.0}),
            make_level_case("engine", "bare", {"infer": 10.0}),
            "infer p50, ms",
        ),
        (
            make_level_case("pipeline", "pipeline", {"infer": 9.0, "total": 9.6}),
            make_level_case("pipeline", "pipeline", {"infer": 10.0, "total": 10.7}),
            "total p50, ms",
        ),
    ],
)
def test_every_level_is_judged(case, slow, name):
    assert name in regressions(make_report(case), make_report(slow))
    assert regressions(make_report(slow), make_report(case)) == set()


def test_a_few_starts_have_no_99th_percentile():
    report = make_report(make_startup_case())
    assert [d.figure for d in compare(report, report, 0.05)] == ["start to active p50, ms"]


def test_one_run_is_refused():
    with pytest.raises(ConfigError, match="--runs 3"):
        compare(make_runs(1, [1.0]), make_runs(2, [1.0, 1.0]), 0.05)


def test_a_case_of_one_run_beside_others_is_not_judged():
    single = make_runs(1, [1.0]).cases[0]
    single.load = {**single.load, "name": "other"}
    before, after = make_runs(2, [1.0, 1.0]), make_runs(3, [1.5, 1.5])
    before.cases.append(single)
    after.cases.append(single)
    alone = [d for d in compare(before, after, 0.05) if d.case == "node, other"]
    assert all(d.verdict == "one run only" and math.isnan(d.low) for d in alone)
    assert len(alone) == 4


def test_nothing_in_common_is_refused():
    other = make_report(make_node_case((1280, 720), frames=3))
    with pytest.raises(ConfigError, match=r"no case .* in common.*1280x720"):
        compare(make_runs(1, [1.0, 1.0]), other, 0.05)
    empty = make_report(Case("startup", {}))
    with pytest.raises(ConfigError, match="no case"):
        compare(empty, empty, 0.05)


def test_what_a_comparison_cannot_say_is_said():
    case = make_startup_case()
    before = make_report(case, make_node_case(frames=3))
    after = make_report(
        case,
        machine={**MACHINE, "cores": 6},
        deadline_ms=50.0,
        model={"name": "other"},
        complete=False,
    )
    caveats = find_caveats(before, after)
    for words in (
        "different machines: AMD EPYC, 2 cores | AMD EPYC, 6 cores",
        "different deadlines: 33.3 ms | 50 ms",
        "different models",
        "only in the first report, not judged: node, 640x480",
        "the second report is partial",
    ):
        assert any(words in caveat for caveat in caveats)
    assert find_caveats(before, before) == []


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0.05", 0.05), (".5", 0.5), ("2.5%", 0.025), ("0%", 0.0)]
)
def test_a_limit_is_a_share(text, share):
    assert parse_max_regression(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "5", "-5%", "5 percent", "1.5", "101%", "nan", "5%%"])
def test_another_limit_is_refused(text):
    with pytest.raises(ConfigError, match="--max-regression must be"):
        parse_max_regression(text)
