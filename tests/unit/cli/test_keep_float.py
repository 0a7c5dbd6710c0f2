# SPDX-License-Identifier: Apache-2.0
"""``perception calibrate --keep-float``."""

from __future__ import annotations

import json

import pytest

from perception_node.calibration import metrics, mixed_precision
from perception_node.cli import main
from perception_node.model.bundle import load_bundle
from tests.calibration_builders import small_bundle, write_pictures

CONVOLUTIONS = 3


@pytest.fixture
def calibrate(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "ROUNDS", 1)
    bundle = small_bundle(tmp_path / "small")
    pictures = write_pictures(tmp_path / "pictures", 20)
    verb = ["calibrate", str(bundle), "--images", str(pictures), "--method", "minmax"]

    def call(*arguments):
        code = main([*verb, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.bundle = bundle
    return call


def record(calibrate):
    return json.loads(load_bundle(calibrate.bundle).read("calibration.json"))


def test_it_says_what_is_kept_what_it_brings_and_what_it_costs(calibrate):
    code, shown, problems = calibrate("--keep-float", "1")
    assert (code, problems) == (0, "")
    lines = shown.splitlines()
    assert lines[0].split() == ["alone", "in", "int8", "output", "error", "label", "flips"]
    assert [line.split()[-1] for line in lines[1:4]] == ["float", "int8", "int8"]
    assert f"1 of {CONVOLUTIONS} layers stay in float: same label " in shown
    assert " ms (float32 " in shown
    assert record(calibrate)["kept_float"] == [lines[1].split()[0]]


def test_machines_get_all_of_it(calibrate):
    code, shown, _ = calibrate("--keep-float", "1", "--json")
    assert code == 0
    answer = json.loads(shown)
    ranking = answer["sensitivity"]
    assert len(ranking) == CONVOLUTIONS
    assert answer["kept_float"]["convolutions"] == [ranking[0]["convolution"]]
    assert set(answer["kept_float"]) == {
        "convolutions",
        "agreement",
        "agreement_without",
        "latency_ms",
        "latency_without_ms",
        "latency_float32_ms",
    }
    assert answer["method"] == "minmax"


def test_without_it_nothing_is_ranked(calibrate):
    code, shown, _ = calibrate("--json")
    assert code == 0
    assert "sensitivity" not in json.loads(shown)
    assert record(calibrate)["kept_float"] == []


@pytest.mark.parametrize(("reached", "exit_code"), [(0.96, 0), (0.94, 2)])
def test_auto_keeps_as_few_as_the_gate_takes(calibrate, monkeypatch, reached, exit_code):
    agreements = {0: 0.9, 1: reached}
    monkeypatch.setattr(
        mixed_precision, "_agreement", lambda _calibration, names, _: agreements[len(names)]
    )
    code, _, problems = calibrate("--keep-float", "auto")
    assert code == exit_code
    if exit_code == 0:
        assert len(record(calibrate)["kept_float"]) == 1
    else:
        assert "agrees with float32 on 94.0% of the images only, not 95.0%" in problems
        assert "calibration.json" not in load_bundle(calibrate.bundle).files


@pytest.mark.parametrize("keep", ["-1", "all", "3"])
def test_a_wrong_number_is_refused_and_nothing_written(calibrate, keep):
    code, _, problems = calibrate(f"--keep-float={keep}")
    assert code == 2
    assert problems.startswith("perception: --keep-float is ")
    assert problems.count("\n") == 1
    assert set(load_bundle(calibrate.bundle).files) == {"model.onnx", "labels.txt"}
