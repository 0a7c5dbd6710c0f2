# SPDX-License-Identifier: Apache-2.0
"""The tables of a report, its ratios, and what is not to be trusted in it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from perception_node.bench.machine import Noise
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.markdown import readme_table, to_markdown
from perception_node.bench.reporting.measurement import OTHER_THREADS, Case, Run, Timeline
from perception_node.bench.reporting.ratios import compute_ratios, find_remarks
from perception_node.bench.reporting.targets import (
    HIGHEST_RATE,
    OVERLOAD_MS,
    P50_TO_LIMIT,
    P99_TO_LIMIT,
    SUPERSEDED_MS,
    find_targets,
)
from tests.bench_builders import (
    make_level_case,
    make_load,
    make_node_case,
    make_report,
    make_startup_case,
)


def steady(subject, **stages_ms):
    """Return a run in which all frames took the same times."""
    named = {name.replace("_", " "): ms for name, ms in stages_ms.items()}
    age_ms = named.get("end to end", named.get("infer", 0.0))
    return Run(
        subject,
        {name: Durations([round(ms * 1e6)] * 300) for name, ms in named.items()},
        {"sent": 300, "answered": 300, "missed": 0},
        {"cpu_ms_per_frame": age_ms, "page_faults_per_frame": 1.0},
        Timeline([number / 30 for number in range(300)], [age_ms] * 300),
    )


def steady_case(**load):
    """Two turns: bare inference becomes faster within each."""
    runs = [
        steady("bare", infer=12.0),
        steady("node", end_to_end=12.0, overhead=2.5, own_code=0.9, infer=9.5, transport=1.6),
        steady("naive", end_to_end=18.0, infer=8.0),
        steady("floor", end_to_end=2.0),
        steady("bare", infer=10.0),
        steady("node", end_to_end=11.0, overhead=2.0, own_code=0.8, infer=9.0, transport=1.2),
        steady("naive", end_to_end=20.0, infer=8.0),
        steady("floor", end_to_end=1.0),
        steady("bare", infer=8.0),
    ]
    return Case("node", {**make_load(), **load}, runs)


def ratios_of(case):
    return {ratio.name: ratio for ratio in compute_ratios(case)}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        (P50_TO_LIMIT, 12 / (10 + 2), 11 / (8 + 1)),
        (P99_TO_LIMIT, 12 / (10 + 2), 11 / (8 + 1)),
        ("end to end p50 / bare p50", 12 / 10, 11 / 8),
        ("end to end p99 / bare p50", 12 / 10, 11 / 8),
        ("overhead, naive / node", (18 - 8) / (12 - 9.5), (20 - 8) / (11 - 9)),
        ("overhead p50, ms", 2.0, 2.5),
        ("end to end p50 - bare p50, ms", 12 - 10, 11 - 8),
        ("own code p50, ms", 0.8, 0.9),
        ("frames answered, %", 100, 100),
        ("page faults per frame", 1, 1),
        ("CPU per frame / bare", 12 / 10, 11 / 8),
        ("p99, last third / first third", 1, 1),
    ],
)
def test_ratios_are_taken_turn_by_turn(name, low, high):
    ratio = ratios_of(steady_case())[name]
    assert (ratio.low, ratio.high) == pytest.approx((low, high), rel=5e-3)
    assert ratio.value == pytest.approx((low + high) / 2, rel=5e-3)
    assert ratio.repetitions == 2


def test_without_partners_there_are_no_ratios_to_them():
    case = steady_case()
    case.runs = case.of("node")
    assert set(ratios_of(case)) == {
        "overhead p50, ms",
        "own code p50, ms",
        "frames answered, %",
        "page faults per frame",
        "p99, last third / first third",
    }


def test_one_lost_frame_of_all_runs_shows():
    case = steady_case()
    case.runs[1] = replace(case.runs[1], counts={"sent": 300, "answered": 299, "missed": 1})
    assert ratios_of(case)["frames answered, %"].value < 100
    text = to_markdown(make_report(case))
    assert (
        "| frames answered, % | 99.83 | 99.66 to 100.00 | 2 | at least 100 | not reached |" in text
    )


def test_a_node_that_answers_nothing_has_answered_0_percent():
    case = steady_case()
    case.runs = [replace(case.runs[1], counts={"sent": 300, "answered": 0, "missed": 300})]
    assert ratios_of(case)["frames answered, %"].value == 0.0


def test_growth_is_seen():
    case = steady_case()
    node = case.runs[1]
    ages_ms = [10.0] * 200 + [30.0] * 100
    case.runs = [replace(node, timeline=Timeline(node.timeline.times_s, ages_ms))]
    assert ratios_of(case)["p99, last third / first third"].value == pytest.approx(3.0)


def test_overload_is_judged_only_where_there_is_one():
    assert OVERLOAD_MS not in ratios_of(steady_case())
    case = steady_case()
    slow = steady("node", end_to_end=80.0, infer=34.0, transport=2.0)
    counts = {"sent": 600, "answered": 300, "missed": 300, "superseded": 300}
    floor = replace(steady("floor", end_to_end=2.0), resources={OTHER_THREADS: 0.2})
    slow = replace(slow, counts=counts, resources={OTHER_THREADS: 0.27})
    case.runs = [slow, floor]
    assert ratios_of(case)[OVERLOAD_MS].value == pytest.approx(80 - 68 - 2, abs=0.2)
    assert not find_targets(case)[OVERLOAD_MS].is_reached(10.0)
    assert ratios_of(case)[SUPERSEDED_MS].value == pytest.approx(0.07)
    assert find_targets(case)[SUPERSEDED_MS].is_reached(0.07)
    case.load["cameras"] = 2
    assert not {OVERLOAD_MS, SUPERSEDED_MS} & ratios_of(case).keys()
    case.load["cameras"] = 1
    case.runs[0] = replace(slow, counts={**counts, "superseded": 59})
    assert not {OVERLOAD_MS, SUPERSEDED_MS} & ratios_of(case).keys()


def test_a_limit_is_of_the_same_turn():
    case = steady_case()
    del case.runs[3]  # the floor of the first turn
    ratio = ratios_of(case)[P50_TO_LIMIT]
    assert (ratio.value, ratio.repetitions) == (pytest.approx(11 / (8 + 1), rel=5e-3), 1)


def test_percentiles_of_the_limit_add_up():
    ages_ms = {"node": (10.0, 30.0), "bare": (6.0, 11.0), "floor": (2.0, 4.0)}
    runs = []
    for subject in ("bare", "node", "floor"):
        often_ms, rarely_ms = ages_ms[subject]
        times = Durations([round(often_ms * 1e6)] * 290 + [round(rarely_ms * 1e6)] * 10)
        runs.append(Run(subject, {"infer" if subject == "bare" else "end to end": times}))
    ratios = ratios_of(Case("node", make_load(), runs))
    assert ratios[P50_TO_LIMIT].value == pytest.approx(10 / 8, rel=5e-3)
    assert ratios[P99_TO_LIMIT].value == pytest.approx(30 / 15, rel=5e-3)


def test_each_camera_has_its_share():
    case = steady_case(cameras=4)
    times_s = [round(n / 120, 4) for n in range(800)]
    ages_ms = [[10.0, 20.0, math.nan, 150.0][n % 4] for n in range(800)]
    ages_ms[0] = ages_ms[4] = math.nan
    case.runs = [replace(case.runs[1], timeline=Timeline(times_s, ages_ms))]
    lines = to_markdown(make_report(case, deadline_ms=100.0)).splitlines()
    begin = lines.index(
        "| camera | sent | answered | share of the answers, % | p50 | p99 | max "
        "| late (over 100 ms) |"
    )
    assert lines[begin + 2 : begin + 6] == [
        "| camera 1 | 200 | 198 | 33.1 | 10.00 | 10.00 | 10.00 | 0 |",
        "| camera 2 | 200 | 200 | 33.4 | 20.00 | 20.00 | 20.00 | 0 |",
        "| camera 3 | 200 | 0 | 0.0 | — | — | — | 0 |",
        "| camera 4 | 200 | 200 | 33.4 | 150.1 | 150.1 | 150.1 | 200 |",
    ]
    assert "| camera |" not in to_markdown(make_report(steady_case()))


def test_a_sweep_is_measured_by_bare_inference():
    ratio = ratios_of(steady_case(highest_rate_hz=90.0, cameras=1))[HIGHEST_RATE]
    assert ratio.value == pytest.approx(0.9, rel=1e-3)


@pytest.mark.parametrize(
    "load", [{"rate_hz": 15.0}, {"transport": "compressed"}, {"cameras": 2}, {"width": 320}]
)
def test_targets_are_for_their_load_alone(load):
    assert {P50_TO_LIMIT, P99_TO_LIMIT} <= find_targets(steady_case()).keys()
    assert P50_TO_LIMIT not in find_targets(steady_case(**load))


def test_unsteady_machines_are_remarked():
    case = steady_case()
    case.runs[2] = replace(case.runs[2], remarks=("3 % of the time was stolen",))
    assert find_remarks(case) == [
        "node 1, naive 1, floor 1: bare inference changed by -17% from before to after",
        "node 2, naive 2, floor 2: bare inference changed by -20% from before to after",
        "naive 1: 3 % of the time was stolen",
    ]
    steady_enough = make_node_case(frames=300)
    assert find_remarks(steady_enough) == []


def test_warnings_come_first_then_the_machine():
    report = make_report(make_startup_case(), warnings=["hot & <b>loud</b> | [x]"], complete=False)
    lines = to_markdown(report).splitlines()
    assert lines[2] == "> **Warning:** partial: the benchmark was interrupted"
    assert lines[4] == r"> **Warning:** hot & \<b\>loud\</b\> \| \[x\]"
    assert "- machine: AMD EPYC, 2 cores" in lines
    assert "- command: perception bench --size 640x480" in lines


def test_every_table_is_well_formed():
    cases = (
        make_node_case(frames=500),
        make_startup_case(),
        make_level_case("pipeline", "pipeline", {"infer": 9.0, "total": 9.6}, frames=20),
    )
    blocks = to_markdown(make_report(*cases)).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) == 4 + 3 + 2 + 2
    for table in tables:
        columns = {line.replace(r"\|", "").count("|") for line in table}
        assert len(columns) == 1


def test_stage_rows_hold_the_percentiles():
    case = make_node_case(frames=1000, repetitions=1)
    text = to_markdown(make_report(case))
    summary = case.merged("node", "end to end").summarize()
    row = next(line for line in text.splitlines() if line.startswith("| end to end |"))
    assert f"| {summary.p50_ms:.2f} | {summary.p90_ms:.2f} | {summary.p99_ms:.2f} |" in row
    assert (
        f"| {summary.p999_ms:.2f} | {summary.max_ms:.2f} | {summary.mean_ms:.2f} | 1000 | 0 |"
        in row
    )
    assert f"| {case.merged('node', 'end to end').upper_bound_ms(99):.2f} |" in row


@pytest.mark.parametrize(
    ("frames", "dashes"), [(1000, 0), (999, 1), (459, 1), (458, 2), (99, 3), (9, 4)]
)
def test_percentiles_of_too_few_frames_are_not_printed(frames, dashes):
    case = make_level_case("engine", "bare", {"infer": 9.0}, frames=frames, repetitions=1)
    row = next(line for line in to_markdown(make_report(case)).splitlines() if "| infer |" in line)
    assert row.count("—") == dashes


def test_frames_over_the_deadline_are_counted():
    case = make_level_case("engine", "bare", {"infer": 9.0}, frames=100)
    over = sum(run.timeline.ages_ms[n] > 9.1 for run in case.runs for n in range(100))
    row = next(
        line
        for line in to_markdown(make_report(case, deadline_ms=9.1)).splitlines()
        if "| infer |" in line
    )
    assert row.endswith(f"| 300 | {over} |")


def test_the_readme_has_a_row_for_each_size_and_says_where():
    report = make_report(
        make_node_case((1280, 720), frames=300), make_node_case(frames=300), make_startup_case()
    )
    large = make_node_case((1920, 1080), frames=300, lost=1)
    older = make_report(make_node_case(frames=9), started_utc="2026-01-01T00:00:00Z")
    lines = readme_table([make_report(large), report, older]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| 640x480",
        "| 1280x720",
        "| 1920x1080",
    ]
    assert lines[2].endswith("| all |")
    assert lines[4].endswith("| 897 of 900 |")
    assert lines[6].startswith("efficientnet_lite0, AMD EPYC, 2 cores, 2026-11-22, 3 runs of 300")
    assert len(lines) == 7


def test_the_readme_leaves_out_what_was_not_measured():
    case = make_node_case(frames=300)
    case.runs = case.of("node")
    assert readme_table([make_report(case)]).splitlines()[2].count("—") == 6
    assert len(readme_table([make_report(make_startup_case())]).splitlines()) == 3


def test_the_state_of_the_machine_is_told():
    machine = {
        "governor": "schedutil",
        "cpu_mhz": [1510, 1510, 2201],
        "power_mode": "15W",
        "load_average": 0.3,
        "temperatures_c": {"cpu-thermal": 45.0, "gpu-thermal": 44.5},
        "noise": Noise(50, 91.6, 0.11, 0.19, 1.4, 888)._asdict(),
    }
    text = to_markdown(make_report(make_startup_case(), machine=machine))
    state = "governor schedutil; CPU MHz 1510, 2201; power mode 15W; load 0.3; Celsius cpu-thermal"
    assert f"- state: {state} 45.0, gpu-thermal 44.5" in text
    assert "- noise: clock: steps of 50 ns, 92 ns a look; sleeps of 1 ms end late by 0.110" in text
    odd = to_markdown(make_report(make_startup_case(), machine={"noise": {"sleeps": "many"}}))
    assert "- noise" not in odd


def test_an_unknown_machine_is_no_error():
    report = make_report(make_startup_case(), machine={})
    assert "machine: ?, ? cores" in to_markdown(report)
    assert json.loads(report.to_json())["machine"] == {}
