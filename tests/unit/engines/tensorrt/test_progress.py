# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import TensorRt, load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.progress import ProgressReporter, make_monitor
from perception_node.errors import EngineBuildError
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT
from tests.tensorrt_versions import StandinVersion


@pytest.fixture
def reports():
    return []


@pytest.fixture
def cancel():
    return threading.Event()


@pytest.fixture
def reporter(reports, cancel):
    return ProgressReporter(reports.append, cancel)


def fractions(reports):
    return [report.fraction for report in reports]


def test_a_phase_goes_from_nothing_to_all(reporter, reports):
    reporter.begin("Building", None, 4)
    for step in range(4):
        assert reporter.step("Building", step)
    reporter.end("Building")
    assert fractions(reports) == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    assert {report.phase for report in reports} == {"Building"}


def test_inner_phases_are_parts_of_a_step_of_the_outer_one(reporter, reports):
    reporter.begin("Building", None, 2)
    reporter.begin("Timing", "Building", 2)
    reporter.step("Timing", 0)
    reporter.end("Timing")
    reporter.step("Building", 0)
    assert fractions(reports) == pytest.approx([0.0, 0.0, 0.25, 0.5])
    assert reports[2].phase == "Timing"


def test_time_and_fraction_never_go_back_in_nested_phases(reporter, reports):
    reporter.begin("Building", None, 3)
    for outer in range(3):
        reporter.begin("Timing", "Building", 5)
        for inner in range(5):
            reporter.step("Timing", inner)
        reporter.end("Timing")
        reporter.step("Building", outer)
    assert fractions(reports) == sorted(fractions(reports))
    times = [report.elapsed_s for report in reports]
    assert times == sorted(times)


def test_our_own_phases_have_no_known_length(reporter, reports):
    reporter.say("converting")
    assert (reports[0].phase, reports[0].fraction) == ("converting", None)


@pytest.mark.parametrize("steps", [0, -1])
def test_phases_without_steps_do_no_harm(reporter, reports, steps):
    reporter.begin("Empty", None, steps)
    reporter.step("Empty", 5)
    reporter.end("Empty")
    reporter.end("Empty")
    assert reporter.step("never begun", 0)
    assert max(fractions(reports)) == 1.0


def test_a_set_event_ends_the_build_at_the_next_step(reporter, cancel):
    reporter.begin("Building", None, 2)
    assert reporter.step("Building", 0)
    cancel.set()
    assert not reporter.step("Building", 1)


def test_before_tensorrt_10_there_is_no_monitor(reporter):
    assert make_monitor(TensorRt(StandinVersion("8.6.1").module, "tensorrt"), reporter) is None


@pytest.fixture
def trt():
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    return load_tensorrt("tensorrt-rtx")


def build(trt, reporter):
    model = load_bundle(ROOT / "models/efficientnet_lite0").read()
    build_plan(trt, model, "fp32", BuildOptions(), monitor=make_monitor(trt, reporter))


def test_the_real_builder_reports_many_steps_up_to_the_end(trt, reporter, reports):
    build(trt, reporter)
    assert len(reports) > 20
    assert fractions(reports)[-1] == 1.0
    assert all(0.0 <= fraction <= 1.0 for fraction in fractions(reports))


def test_the_real_builder_can_be_cancelled_in_the_middle(trt, cancel):
    reports = []

    def report(progress):
        reports.append(progress)
        if len(reports) == 10:
            cancel.set()

    with pytest.raises(EngineBuildError, match="no plan"):
        build(trt, ProgressReporter(report, cancel))
    assert len(reports) < 30
