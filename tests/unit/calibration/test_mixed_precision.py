# SPDX-License-Identifier: Apache-2.0
"""Convolutions that stay in float, on a small network and on pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from perception_node.calibration import metrics, mixed_precision
from perception_node.calibration.calibrate import calibrate
from perception_node.calibration.images import open_images
from perception_node.calibration.mixed_precision import (
    calibrate_mixed,
    keep_in_float,
    parse_keep,
)
from perception_node.calibration.sensitivity import rank_layers
from perception_node.engines.tensorrt.calibration_cache import parse_cache
from perception_node.errors import CalibrationError, ConfigError
from perception_node.model.bundle import load_bundle
from tests.builders import MANIFEST, make_bundle, smooth
from tests.tensorrt_builders import resnet18

pytestmark = pytest.mark.slow

SIDE = 8  # what MANIFEST says
IMAGES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        picture = smooth(40, 60, seed=number)
        cv2.imwrite(str(folder / f"{number:02}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, folder):
    folders = tmp_path_factory.mktemp("bundle")
    model = resnet18(classes=3, side=SIDE, width=8)
    untrained = load_bundle(make_bundle(folders / "untrained", model, MANIFEST))
    values = [image.values for image in open_images(untrained, images=folder)]
    return load_bundle(make_bundle(folders / "net", balance(model, values), MANIFEST))


def balance(model, inputs):
    """Return the network with biases that make each class the best one for some inputs."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"image": values})[0] for values in inputs])
    proto = onnx.load_from_string(model)
    name = next(node for node in proto.graph.node if node.op_type == "Gemm").input[2]
    bias = next(each for each in proto.graph.initializer if each.name == name)
    changed = onnx.numpy_helper.to_array(bias) - logits.mean(axis=0)
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, name))
    return proto.SerializeToString()


@pytest.fixture(scope="module")
def images(bundle, folder):
    return open_images(bundle, images=folder)


@pytest.fixture(scope="module")
def calibration(bundle, images):
    return calibrate(bundle, images, "minmax")


@pytest.fixture(scope="module")
def inputs(images):
    return [image.values for image in images]


@pytest.fixture(scope="module")
def ranking(calibration, inputs):
    return rank_layers(calibration.model, calibration.ranges, inputs[:4])


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch):
    monkeypatch.setattr(metrics, "ROUNDS", 1)


def spoil(calibration):
    """Return the calibration with a useless range between two convolutions, and their names."""
    nodes = calibration.model.graph.node
    makers = {node.output[0]: node for node in nodes}
    after = [node for node in nodes if node.op_type == "Conv"][9]
    tensor = after.input[0]
    before = makers[makers[tensor].input[0]]  # a convolution, and its activation
    assert (before.op_type, makers[tensor].op_type) == ("Conv", "Relu")
    assert sum(tensor in node.input for node in nodes) == 1
    low, high = calibration.ranges[tensor]
    ranges = {**calibration.ranges, tensor: (1e4 * low, 1e4 * high)}
    return replace(calibration, ranges=ranges), {before.name, after.name}


def float_convolutions(content, names):
    """Return which of these convolutions read weights that are not quantised."""
    model = onnx.load_from_string(content)
    constants = {each.name for each in model.graph.initializer}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    } & set(names)


def test_a_number_keeps_that_many_of_the_worst(calibration, ranking, images):
    kept = keep_in_float(calibration, ranking, 3, images, min_agreement=1.0)
    assert kept.convolutions == tuple(each.convolution for each in ranking[:3])
    assert 0.0 <= kept.agreement <= 1.0
    assert min(kept.latency_ms, kept.latency_without_ms, kept.latency_float32_ms) > 0.0


def test_auto_keeps_none_where_none_is_needed(calibration, ranking, images):
    kept = keep_in_float(calibration, ranking, "auto", images, min_agreement=0.0)
    assert kept.convolutions == ()
    assert kept.agreement == kept.agreement_without


def test_auto_keeps_more_until_the_agreement_is_reached(calibration, ranking, images, inputs):
    healthy = keep_in_float(calibration, ranking, 0, images, min_agreement=0.0).agreement
    spoilt, names = spoil(calibration)
    ranked = rank_layers(spoilt.model, spoilt.ranges, inputs[:4])
    steps = []
    kept = keep_in_float(
        spoilt,
        ranked,
        "auto",
        images,
        min_agreement=healthy - 0.1,
        report=lambda _, done, total: steps.append((done, total)),
    )
    assert kept.agreement_without < healthy - 0.1 <= kept.agreement
    assert set(kept.convolutions) == names
    assert steps == [(1, 6), (2, 6), (3, 6)]  # of none, 1, 2, 4, 8, 10


def test_auto_gives_up_at_half_of_them(calibration, ranking, images):
    with pytest.raises(
        CalibrationError, match=r"with 10 of 20 layers in float.*more images .* or use fp16"
    ):
        keep_in_float(calibration, ranking, "auto", images, min_agreement=1.01)


@pytest.mark.parametrize("keep", [20, 21, 1000])
def test_something_must_be_left_to_quantise(bundle, images, keep, monkeypatch):
    monkeypatch.setattr(mixed_precision, "calibrate", None)  # refused before the long work
    with pytest.raises(ConfigError, match=f"--keep-float is {keep}; the model has 20 layers"):
        calibrate_mixed(bundle, images, "minmax", keep, min_agreement=0.95)


def test_no_images_to_judge_with_are_refused(calibration, ranking, images):
    with pytest.raises(CalibrationError, match="none of the images held out to judge"):
        keep_in_float(calibration, ranking, 1, images.subset([]), min_agreement=0.95)


@pytest.mark.parametrize(("text", "keep"), [("auto", "auto"), ("0", 0), ("12", 12)])
def test_the_argument_is_read(text, keep):
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "-1", "1.5", "all", "²", "Auto"])
def test_another_argument_is_refused(text):
    with pytest.raises(ConfigError, match=r"--keep-float is .* how many layers"):
        parse_keep(text)


@pytest.fixture(scope="module")
def mixed(bundle, images):
    return calibrate_mixed(bundle, images, "minmax", 2, min_agreement=0.95)


def test_the_kept_ones_are_float_in_both_models_and_only_they(mixed):
    names = [each.convolution for each in mixed.ranking]
    for file in ("model.int8.onnx", "model.int8.cpu.onnx"):
        found = float_convolutions(mixed.calibration.files[file], names)
        assert found == set(mixed.kept.convolutions) == set(names[:2])


def test_the_record_names_them(mixed):
    record = json.loads(mixed.calibration.files["calibration.json"])
    assert record["kept_float"] == sorted(mixed.kept.convolutions)


def test_the_classic_cache_has_no_scale_for_what_they_compute(mixed, calibration):
    scales = parse_cache(mixed.calibration.files["calibration.cache"]).scales
    all_scales = parse_cache(calibration.files["calibration.cache"]).scales
    nodes = calibration.model.graph.node
    outputs = {node.output[0] for node in nodes if node.name in mixed.kept.convolutions}
    behind = {
        node.output[0] for node in nodes if node.op_type == "Relu" and node.input[0] in outputs
    }
    assert set(all_scales) - set(scales) == (outputs | behind) & set(all_scales) != set()


def test_keeping_none_is_the_plain_calibration(bundle, images, calibration):
    mixed = calibrate_mixed(bundle, images, "minmax", 0, min_agreement=0.95)
    assert mixed.calibration.files == calibration.files


def test_the_same_images_give_the_same_files(bundle, images, mixed):
    again = calibrate_mixed(bundle, images, "minmax", 2, min_agreement=0.95)
    assert again.calibration.files == mixed.calibration.files
    assert again.ranking == mixed.ranking


def test_every_stage_reports_its_progress(bundle, images):
    stages = {}

    def report(stage, done, total):
        stages[stage] = (done, total)

    calibrate_mixed(bundle, images, "minmax", 1, min_agreement=0.95, report=report)
    assert stages["layers"] == (20, 20)
    assert stages["kept in float"] == (2, 2)
    assert np.all([done == total for done, total in stages.values()])
