# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from perception_node.cli import main
from perception_node.model.bundle import ACCURACY, load_bundle
from tests.builders import BLUE, GREEN, RED, START_NS, image_message, solid, write_bag
from tests.gate_builders import (
    color_pictures,
    int8_bundle,
    int8_color_network,
    mixed_pictures,
    multi_label_bundle,
    write_label_sets,
    write_truth,
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A folder of pictures and a CSV of their labels."""
    folder = tmp_path_factory.mktemp("sample")
    pictures, truth = color_pictures(folder / "pictures")
    return pictures, write_truth(folder / "truth.csv", truth)


@pytest.fixture
def bundle(tmp_path):
    return int8_bundle(tmp_path / "good").path


@pytest.fixture
def bad_bundle(tmp_path):
    return int8_bundle(tmp_path / "bad", model=int8_color_network(order=(1, 0, 2))).path


@pytest.fixture
def run(sample, capsys):
    """Run the verb and return (exit code, stdout, stderr)."""

    def call(bundle, *arguments, images=True, labels=True):
        given = ["--images", sample[0]] if images else []
        given += ["--labels", sample[1]] if labels else []
        code = main(["evaluate", *map(str, [bundle, *given, *arguments])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_good_model_passes_and_may_then_run(run, bundle, sample, capsys):
    picture = str(sorted(sample[0].iterdir())[1])
    classify = ["classify", picture, "--model", str(bundle), "--precision", "int8", "--json"]
    assert main(classify) == 2
    assert "perception evaluate" in capsys.readouterr().err
    code, shown, problems = run(bundle)
    assert (code, problems) == (0, "")
    heading, *rows = [line.split() for line in shown.splitlines()]
    assert heading[:2] == ["60", "images"]
    assert [row[0] for row in rows] == ["model.onnx", "model.int8.onnx", "model.int8.cpu.onnx"]
    assert [row[-1] for row in rows] == ["reference", "passed", "passed"]
    assert main(classify) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["label"] == "green"


def test_a_bad_model_is_exit_1_and_must_not_run(run, bad_bundle, sample, capsys):
    code, shown, _ = run(bad_bundle)
    assert code == 1
    assert "FAILED" in shown
    assert "model.int8.cpu.onnx: top-1 is 66.67 points below float32, over 1" in shown
    picture = str(min(sample[0].iterdir()))
    classify = ["classify", picture, "--model", str(bad_bundle), "--precision", "int8", "--json"]
    assert main(classify) == 2
    assert "66.67 points" in capsys.readouterr().err
    assert main([*classify, "--allow-ungated"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["label"] == "green"  # it is red


def test_json_is_what_the_bundle_then_holds(run, bundle):
    code, shown, _ = run(bundle, "--json")
    assert code == 0
    assert json.loads(shown) == json.loads(load_bundle(bundle).read(ACCURACY))


def test_the_report_is_a_page(run, bundle, tmp_path):
    page = tmp_path / "report.html"
    assert run(bundle, "--report", page)[0] == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_is_one_line(run, bundle, tmp_path):
    code, _, problems = run(bundle, "--report", tmp_path / "missing/report.html")
    assert code == 2
    assert "report.html: cannot be written: No such file or directory" in problems
    assert not (bundle / ACCURACY).exists()


def test_limits_and_precisions_are_the_callers(run, bad_bundle):
    arguments = ["--precisions", "fp32,int8", "--max-drop", "70", "--min-agreement", "0.3"]
    assert run(bad_bundle, *arguments)[0] == 0
    assert run(bad_bundle, "--precisions", "fp32")[0] == 0


def test_without_labels_there_is_no_accuracy(run, bundle):
    code, shown, _ = run(bundle, labels=False)
    assert code == 0
    assert "top-1" not in shown
    assert "agreement" in shown


def test_skipped_images_are_told(run, bundle, tmp_path):
    pictures, _ = color_pictures(tmp_path / "pictures")
    (pictures / "000_red.png").write_bytes(b"no picture")
    code, _, problems = run(bundle, "--images", pictures, images=False)
    assert code == 0
    assert "1 skipped (000_red.png: " in problems


def test_images_may_come_from_a_bag(run, bundle, tmp_path):
    messages = [
        ("/camera", "sensor_msgs/msg/Image", START_NS + n, image_message(solid(color), stamp_ns=n))
        for n, color in enumerate([RED, GREEN, BLUE] * 20)
    ]
    bag = write_bag(tmp_path / "bag", messages)
    arguments = ["--bag", bag, "--topic", "/camera", "--json"]
    code, shown, _ = run(bundle, *arguments, images=False, labels=False)
    assert code == 0
    images = json.loads(shown)["images"]
    assert (images["source"], images["count"]) == ("bag, topic /camera", 60)


def test_fewer_samples_are_evenly_spaced(run, bundle):
    code, shown, _ = run(bundle, "--samples", "3", "--json")
    assert code == 1  # far too few
    assert json.loads(shown)["images"]["count"] == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--max-drop", "-1"], "--max-drop is -1; it must be 0 to 100"),
        (["--min-agreement", "95"], "--min-agreement is 95; it must be 0 to 1"),
        (["--precisions", "int4"], "'int4' is none of fp32, fp16, int8"),
        (["--precisions", "fp16"], "perception calibrate"),
        (["--bag", "somewhere"], "--images"),
        (["--samples", "0"], "0 samples"),
        (["--labels", "/nowhere.csv"], "/nowhere.csv: cannot be read"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(run, bundle, arguments, problem):
    code, shown, problems = run(bundle, *arguments)
    assert (code, shown) == (2, "")
    assert problems.count("\n") == 1
    assert problem in problems
    assert not (bundle / ACCURACY).exists()


def test_labels_of_other_images_are_refused(run, bundle, tmp_path):
    truth = write_truth(tmp_path / "other.csv", {"a.png": 0})
    code, _, problems = run(bundle, "--labels", truth)
    assert code == 2
    assert "has none of the images" in problems


def test_a_multi_label_model_runs_after_its_gate(tmp_path, capsys):
    pictures, truth = mixed_pictures(tmp_path / "pictures")
    labels = str(write_label_sets(tmp_path / "truth.csv", truth))
    bundle = str(multi_label_bundle(tmp_path / "good", thresholds=(0.5, 0.5, 0.5)).path)
    images = ["--images", str(pictures), "--labels", labels]
    report = tmp_path / "report.html"
    assert main(["evaluate", bundle, *images, "--report", str(report)]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert {"mAP", "precision", "recall"} <= set(heading.split())
    assert all("100.00%" in row for row in rows)
    page = report.read_text()
    assert "Mean average precision" in page
    assert "average precision" in page
    assert "Points of mAP lost" in page
    files = [str(pictures / f"{number:03}.png") for number in (0, 5)]
    options = ["--model", bundle, "--precision", "int8", "--json"]
    assert main(["classify", *files, *options]) == 0
    none, two = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert none["results"] == []
    assert {one["label"] for one in two["results"]} == {"red", "blue"}
    assert all(one["score"] > 0.9 for one in two["results"])
    assert main(["inspect", bundle]) == 0
    shown = capsys.readouterr().out
    assert "sigmoid-logits" in shown
    assert "0.5, 0.5, 0.5" in shown
    assert main(["calibrate", bundle, *images]) == 2
    assert "leave it out, and give it to perception evaluate" in capsys.readouterr().err
