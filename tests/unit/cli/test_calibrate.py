# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from perception_node.cli import main
from perception_node.model.bundle import load_bundle
from tests.builders import START_NS, compressed_message, encode, smooth, write_bag
from tests.calibration_builders import small_bundle, small_network, write_pictures

FILES = {
    "calibration.cache",
    "calibration.json",
    "model.fp16.onnx",
    "model.int8.cpu.onnx",
    "model.int8.onnx",
}


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures", 12)


@pytest.fixture
def bundle(tmp_path):
    return small_bundle(tmp_path / "bundle")


def calibrate(capsys, *arguments):
    code = main(["calibrate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_files_are_in_the_bundle_then(capsys, bundle, folder):
    code, out, err = calibrate(capsys, bundle, "--images", folder, "--method", "minmax")
    assert (code, err) == (0, "")
    assert load_bundle(bundle).files.keys() >= FILES
    assert load_bundle(bundle).read("model.int8.cpu.onnx")
    assert "minmax" in out
    assert "11 images gave the ranges, 1 others judged\n" in out
    assert f"perception evaluate {bundle} --images" in out


def test_json_says_it_to_machines(capsys, bundle, folder):
    (folder / "bad.jpg").write_text("no image")
    arguments = ("--method", "percentile", "--samples", "13", "--json")
    code, out, err = calibrate(capsys, bundle, "--images", folder, *arguments)
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert (record["method"], record["images"], record["held_out"]) == ("percentile", 11, 1)
    assert "no JPEG" in record["skipped"]["bad.jpg"]
    assert set(record["files"]) == FILES
    assert record["trials"][0]["agreement"] >= 0


def test_images_come_from_a_bag_too(capsys, bundle, tmp_path):
    kind = "sensor_msgs/msg/CompressedImage"
    messages = [
        ("/camera", kind, START_NS + n, compressed_message(encode(smooth(40, 60, seed=n))))
        for n in range(12)
    ]
    bag = write_bag(tmp_path / "bag", messages)
    arguments = ("--topic", "/camera", "--method", "minmax", "--json")
    code, out, _ = calibrate(capsys, bundle, "--bag", bag, *arguments)
    assert (code, json.loads(out)["images"]) == (0, 11)


def test_labels_decide_too(capsys, bundle, folder, tmp_path):
    rows = "".join(f"{file.name},1\n" for file in folder.iterdir())
    (tmp_path / "labels.csv").write_text("file,class_index\n" + rows)
    arguments = ("--method", "minmax", "--labels", tmp_path / "labels.csv", "--json")
    _, out, _ = calibrate(capsys, bundle, "--images", folder, *arguments)
    assert json.loads(out)["trials"][0]["top_1"] in {0.0, 1.0}


def test_calibrating_again_replaces_the_files(capsys, bundle, folder):
    calibrate(capsys, bundle, "--images", folder, "--method", "minmax")
    before = load_bundle(bundle).files
    write_pictures(folder, 4, first=50)
    calibrate(capsys, bundle, "--images", folder, "--method", "minmax")
    after = load_bundle(bundle).files
    assert before["calibration.json"] != after["calibration.json"]
    assert before["model.onnx"] == after["model.onnx"]


@pytest.mark.parametrize(
    ("model", "count", "arguments", "problem"),
    [
        ({}, 0, (), "holds no .jpeg, .jpg, .png, .tif, .tiff, .webp file"),
        ({}, 1, (), "1 image(s); give at least 10"),
        ({}, 12, ("--topic", "/camera"), "--topic names a topic of a bag"),
        ({}, 12, ("--samples", "0"), "0 samples"),
        ({}, 12, ("--labels", "/nothing.csv"), "/nothing.csv: cannot be read"),
        ({"weight": float("nan")}, 12, (), "weights hold NaN"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    capsys, tmp_path, model, count, arguments, problem
):
    bundle = small_bundle(tmp_path / "bundle", small_network(**model))
    before = sorted(bundle.iterdir())
    folder = write_pictures(tmp_path / "few", count)
    code, out, err = calibrate(
        capsys, bundle, "--images", folder, "--method", "minmax", *arguments
    )
    assert (code, out) == (2, "")
    assert problem in err
    assert err.count("\n") == 1
    assert sorted(bundle.iterdir()) == before


def test_a_bundle_that_cannot_be_written_is_refused_at_once(capsys, bundle, folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    code, out, err = calibrate(capsys, bundle, "--images", folder)
    assert (code, out) == (2, "")
    assert "copy the bundle to a folder of your own" in err
