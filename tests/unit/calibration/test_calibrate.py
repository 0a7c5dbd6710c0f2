# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
import pytest

from perception_node.calibration.calibrate import METHODS, calibrate
from perception_node.calibration.images import open_images
from perception_node.engines.tensorrt.calibration_cache import parse_cache
from perception_node.errors import CalibrationError, EngineBuildError
from perception_node.model.bundle import load_bundle
from tests.builders import encode, make_bundle, solid
from tests.calibration_builders import SIDE, small_bundle, write_pictures

MODELS = ("model.fp16.onnx", "model.int8.onnx", "model.int8.cpu.onnx")
FILES = {*MODELS, "calibration.json", "calibration.cache"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), 20)


@pytest.fixture(scope="module")
def found(bundle, folder):
    return calibrate(bundle, open_images(bundle, images=folder), "minmax")


@pytest.fixture(scope="module")
def record(found):
    return json.loads(found.files["calibration.json"])


def test_it_makes_all_files_of_lower_precision(found):
    assert found.files.keys() == FILES


@pytest.mark.parametrize("name", MODELS)
def test_each_model_runs_with_the_same_ends(found, name):
    session = ort.InferenceSession(found.files[name], providers=["CPUExecutionProvider"])
    (values,) = session.run(["logits"], {"image": np.zeros((1, 3, SIDE, SIDE), np.float32)})
    assert (values.dtype, values.shape) == (np.float32, (1, 3))


def test_a_tenth_is_held_out(found, record):
    assert (found.used, found.held_out) == (18, 2) == (record["used"], record["held_out"])


def test_the_record_names_what_it_depends_on_and_no_path(found, record, bundle, folder):
    images = open_images(bundle, images=folder)
    list(images)
    assert record["method"] == "minmax"
    assert record["images"] == {"source": "folder", "sha256": images.digest(), "skipped": 0}
    assert record["model_sha256"] == bundle.files["model.onnx"]
    assert record["tools"]["onnxruntime"] == ort.__version__
    assert record["ranges"] == {name: list(limits) for name, limits in found.ranges.items()}
    assert str(folder.parent).encode() not in found.files["calibration.json"]


def test_the_cache_has_the_same_ranges(found):
    scales = parse_cache(found.files["calibration.cache"]).scales
    assert scales.keys() == found.ranges.keys()
    for name, limits in found.ranges.items():
        assert scales[name] == pytest.approx(max(map(abs, limits)) / 127, rel=1e-6)


def test_the_same_images_give_the_same_bytes(bundle, folder, found, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in sorted(folder.iterdir(), reverse=True):
        (copy / file.name).write_bytes(file.read_bytes())
    assert calibrate(bundle, open_images(bundle, images=copy), "minmax").files == found.files


def test_auto_takes_the_method_that_does_best(bundle, folder):
    found = calibrate(bundle, open_images(bundle, images=folder), "auto")
    assert [trial.method for trial in found.trials] == list(METHODS)
    best = max(found.trials, key=lambda trial: (trial.agreement, -trial.difference))
    assert found.method == best.method == json.loads(found.files["calibration.json"])["method"]


def test_right_labels_count_where_they_are_known(bundle, folder):
    images = open_images(bundle, images=folder)
    wrong = calibrate(bundle, images, "minmax", labels=dict.fromkeys(images.names, 0))
    right = calibrate(bundle, images, "minmax", labels=dict.fromkeys(images.names, 2))
    tops = [wrong.trials[0].top_1, right.trials[0].top_1]
    session = ort.InferenceSession(bundle.read(), providers=["CPUExecutionProvider"])
    held_out = [image.values for image in images][9::10]
    labels = [int(session.run(None, {"image": each})[0].argmax()) for each in held_out]
    assert tops == [labels.count(0) / 2, labels.count(2) / 2]


def test_progress_is_reported_after_each_image(bundle, folder):
    steps = []
    calibrate(
        bundle, open_images(bundle, images=folder), "minmax", report=lambda *s: steps.append(s)
    )
    assert steps[:2] == [("ranges", 0, 18), ("ranges", 1, 18)]
    assert steps[-1] == ("held-out images", 2, 2)
    assert [phase for phase, done, total in steps if done == total] == [
        "ranges",
        "biases",
        "held-out images",
    ]


def failing(bundle, folder, problem):
    with pytest.raises(CalibrationError, match=problem):
        calibrate(bundle, open_images(bundle, images=folder), "minmax")


def test_one_image_is_too_few(bundle, tmp_path):
    failing(bundle, write_pictures(tmp_path, 1), r": 1 image\(s\); give at least 10, better 500")


def test_images_that_are_no_images_do_not_count(bundle, tmp_path):
    write_pictures(tmp_path, 9)
    for number in range(9):
        (tmp_path / f"bad{number}.jpg").write_text("no image")
    failing(bundle, tmp_path, r"9 usable image\(s\) that differ, 8 skipped \(bad1.jpg: no JPEG")


def test_only_files_that_are_no_images_are_an_error(bundle, tmp_path):
    for number in range(12):
        (tmp_path / f"bad{number:02}.jpg").write_text("no image")
    failing(bundle, tmp_path, "0 usable|no images to calibrate with")


def test_copies_of_one_image_are_too_few(bundle, tmp_path):
    write_pictures(tmp_path, 1)
    for number in range(20):
        (tmp_path / f"copy{number}.jpg").write_bytes((tmp_path / "000.jpg").read_bytes())
    failing(bundle, tmp_path, r"1 usable image\(s\) that differ; give at least 10")


def test_images_of_one_colour_each_are_refused(bundle, tmp_path):
    for number in range(20):
        image = encode(solid((number * 10, 0, 0)), ".png")
        (tmp_path / f"{number}.png").write_bytes(image)
    failing(bundle, tmp_path, "each image is of one colour; was the lens covered")


def test_a_model_without_convolutions_is_refused(folder, tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "colors"))
    with pytest.raises(EngineBuildError, match="no convolution"):
        calibrate(bundle, open_images(bundle, images=folder), "minmax")
