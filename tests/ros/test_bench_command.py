# SPDX-License-Identifier: Apache-2.0
"""``perception bench`` as a command: what it measures, what it refuses, and Ctrl-C."""

from __future__ import annotations

import io
import os
import signal

import pytest
from rich.console import Console

from perception_node.bench.camera.load import HIGHEST_RATE_HZ, Load
from perception_node.bench.levels import benchmark
from perception_node.bench.levels.benchmark import NOT_HIGHEST, Benchmark, BenchmarkPlan
from perception_node.bench.levels.node_level import RunInterrupted
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.live_table import LiveTable
from perception_node.bench.reporting.measurement import Report, Run, read_report
from perception_node.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_WRONG_INPUT, main
from tests.builders import SAMPLE_BAG
from tests.ros.harness import start_cli, wait_for

pytestmark = pytest.mark.ros
SMALL = ("--size", "320x240", "--rate", "60", "--warm-up", "5", "--deadline-ms", "2000")


def test_levels_take_turns_and_all_is_written(domain, color_model, tmp_path):
    out = tmp_path / "report"
    levels = ("pipeline", "node", "--baseline", "floor", "--transport", "compressed")
    options = ("--frames", 30, "--model", color_model, "--out", out)
    with start_cli(domain, "bench", *levels, *SMALL, *options) as program:
        assert program.process.wait(60) == EXIT_OK, program.log()
        output = program.log()
    assert output.startswith("clock: steps of ")
    assert "run 5 of 5: " in output
    assert f"written: {out}.json, .md, .png" in output
    report = read_report(tmp_path / "report.json")
    assert report.complete
    assert [[run.subject for run in case.runs] for case in report.cases] == [
        ["pipeline"],
        ["bare", "node", "floor", "bare"],
    ]
    assert "decode" in report.cases[0].runs[0].stages
    (node,) = report.cases[1].of("node")
    assert node.counts["answered"] > 10
    assert len(node.stages["infer"]) == len(node.stages["end to end"])
    assert str(tmp_path) not in report.to_json()
    assert "sleeps of 1 ms end late" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "report.png").stat().st_size > 10_000


def has_processes(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_leaves_a_partial_report_and_no_process(domain, color_model, tmp_path):
    out = tmp_path / "report"
    options = ("--frames", 40, "--runs", 500, "--model", color_model, "--out", out)
    with start_cli(domain, "bench", "node", *SMALL, *options) as program:
        wait_for(lambda: "run 2 of " in program.log(), program.log, 60)
        os.killpg(program.process.pid, signal.SIGINT)  # a terminal interrupts all of them
        assert program.process.wait(30) == EXIT_INTERRUPTED, program.log()
        # An ended process is in its group until init has looked after it.
        wait_for(lambda: not has_processes(program.process.pid), program.log, 5)
        assert "partial: the benchmark was interrupted" in program.log()
        assert "Traceback" not in program.log()
    report = read_report(tmp_path / "report.json")
    assert not report.complete
    assert report.cases[0].of("node")[0].counts["sent"] == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["engine", "--baseline", "naive"], "--baseline is of the level node"),
        (["startup", "--sweep"], "--sweep is of the level node"),
        (["--sweep", "--baseline", "floor"], "--sweep measures the node alone"),
        (["--cameras", "2", "--baseline", "floor"], "--cameras: --baseline takes 1, found 2"),
        (["--bag", SAMPLE_BAG, "--size", "640x480"], "--bag plays its images as they are"),
        (["--bag", SAMPLE_BAG, "--encoding", "rgb8"], "--bag plays its images as they are"),
        (["--transport", "compressed", "--encoding", "rgb8"], "--encoding is of raw images"),
        (["--baseline", "naive", "--encoding", "nv12"], "naive cannot read nv12; it reads: rgb8"),
        (["--parameter", "image_transport=raw"], "image_transport is set by --transport only"),
        (["--parameter", "colour=red"], "colour=red: not NAME=VALUE of a parameter: model, "),
        (["--parameter", "deadline_ms=soon"], "deadline_ms must be of type int, found soon"),
        (["--runs", "0"], "--runs must be 1 or more, found 0"),
        (["--deadline-ms", "nan"], "--deadline-ms: 'nan' is not a finite number"),
        (["--deadline-ms", "0"], "--deadline-ms must be 1 to 60000, found 0"),
        (["--size", "big"], "--size must be WIDTHxHEIGHT"),
        (["--out", "/no/such/report"], "--out /no/such/report: there is no folder /no/such"),
        (["--out", "/proc/report"], "--out /proc/report: cannot be written: "),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_measured(arguments, words, capsys):
    assert main(["bench", *map(str, arguments)]) == EXIT_WRONG_INPUT
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert words in line
    assert captured.out == ""


@pytest.fixture
def sweep(monkeypatch):
    """Return a function that sweeps a made-up node and returns the report."""

    def do(bare_ms, keeps_hz, interrupt_at=10**9):
        tried = []

        def measure_paced(load, *_arguments, **_options):
            stages = {"infer": Durations([round(bare_ms * 1e6)])}
            return Run("bare", stages, {"sent": load.frames, "missed": 0})

        def measure_node(load, *_arguments, **_options):
            tried.append(load.rate_hz)
            missed = 0 if load.rate_hz <= keeps_hz else load.frames // 2
            run = Run("node", {}, {"sent": load.frames, "missed": missed})
            if len(tried) == interrupt_at:
                raise RunInterrupted(run)
            return run

        monkeypatch.setattr(benchmark, "measure_paced", measure_paced)
        monkeypatch.setattr(benchmark, "measure_node", measure_node)
        report = Report(["--sweep"], "2026-11-22T20:00:00Z", 100.0)
        console = Console(file=io.StringIO())
        plan = BenchmarkPlan(
            ("node",), (Load(frames=200),), runs=1, deadline_ms=100.0, is_sweep=True
        )
        try:
            with LiveTable(console, plan.total_runs) as table:
                Benchmark(plan, report, table).run()
        except KeyboardInterrupt:
            assert not report.complete
        return report, tried

    return do


@pytest.mark.parametrize(
    ("baselines", "frames"), [((), 300), (("naive",), 300), (("floor",), 900)]
)
def test_bare_inference_beside_the_floor_is_as_long_as_the_node(baselines, frames, monkeypatch):
    played = []

    def measure_paced(load, *_arguments, **_options):
        played.append(load.frames)
        return Run("bare", {}, {})

    monkeypatch.setattr(benchmark, "measure_paced", measure_paced)
    monkeypatch.setattr(benchmark, "measure_node", lambda _load, name, *_, **__: Run(name, {}, {}))
    plan = BenchmarkPlan(
        ("node",), (Load(frames=900),), runs=1, deadline_ms=100.0, baselines=baselines
    )
    report = Report([], "2026-11-22T20:00:00Z", 100.0)
    Benchmark(plan, report, LiveTable(Console(file=io.StringIO()), plan.total_runs)).run()
    assert played == [frames, frames]


def test_a_sweep_stands_beside_bare_inference_at_its_rate(sweep):
    report, tried = sweep(bare_ms=8.0, keeps_hz=100.0)
    (case,) = report.cases
    assert 97 < case.load["highest_rate_hz"] <= 100
    assert case.load["rate_hz"] == pytest.approx(case.load["highest_rate_hz"], abs=0.1)
    assert [run.subject for run in case.runs] == ["bare", "node"]
    assert min(tried) == 30.0
    assert case.of("node")[0].remarks == ()


def test_a_fast_model_is_swept_as_far_as_a_camera_goes(sweep):
    report, tried = sweep(bare_ms=0.1, keeps_hz=1e9)
    assert max(tried) == report.cases[0].load["highest_rate_hz"] == HIGHEST_RATE_HZ
    assert report.cases[0].of("node")[0].remarks == (NOT_HIGHEST,)
    report, tried = sweep(bare_ms=0.1, keeps_hz=250.0)
    assert 240 < report.cases[0].load["highest_rate_hz"] <= 250


def test_a_rate_that_is_never_kept_is_none(sweep):
    report, _ = sweep(bare_ms=8.0, keeps_hz=1.0)
    assert report.cases[0].load["highest_rate_hz"] == 0.0
    assert report.cases[0].subjects == ("bare",)


def test_an_interrupted_sweep_leaves_what_was_tried(sweep):
    report, tried = sweep(bare_ms=8.0, keeps_hz=100.0, interrupt_at=3)
    assert [case.load["rate_hz"] for case in report.cases] == [30.0, *tried]
    assert [len(case.runs) for case in report.cases] == [1, 1, 1, 1]
    assert not any("highest_rate_hz" in case.load for case in report.cases)
