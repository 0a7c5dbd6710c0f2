# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from perception_node.calibration.quantization import convolutions, prepare, quantize_for_cpu
from perception_node.calibration.ranges import measure
from perception_node.calibration.sensitivity import (
    FEWEST_IMAGES,
    MOST_IMAGES,
    RUNS,
    rank_layers,
)
from perception_node.errors import CalibrationError
from tests.tensorrt_builders import resnet18

pytestmark = pytest.mark.slow

SPREAD = 3000.0
SIDE = 16


def inputs(count, side=SIDE):
    generator = np.random.default_rng(7)
    return [generator.normal(0, 1, (1, 3, side, side)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def prepared():
    return prepare(resnet18(classes=5, side=SIDE, width=8))


@pytest.fixture(scope="module")
def ranges(prepared):
    return measure(prepared, inputs(4))


@pytest.fixture(scope="module")
def ranking(prepared, ranges):
    return rank_layers(prepared, ranges, inputs(4))


def test_every_convolution_is_ranked_worst_first(prepared, ranking):
    assert sorted(each.convolution for each in ranking) == sorted(convolutions(prepared))
    errors = [each.error for each in ranking]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0.0
    assert {each.images for each in ranking} == {4}


def test_the_same_images_give_the_same_ranking(prepared, ranges, ranking):
    assert rank_layers(prepared, ranges, inputs(4)) == ranking


def test_one_convolution_alone_costs_less_than_all(prepared, ranges, ranking):
    def run(model):
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"image": each})[0] for each in inputs(4)])

    expected = run(prepared.SerializeToString())
    found = run(quantize_for_cpu(prepared, ranges))
    together = ((found - expected) ** 2).sum() / (expected**2).sum()
    assert ranking[0].error < together < 10 * sum(each.error for each in ranking)


def test_a_range_that_is_far_too_wide_is_found(prepared, ranges):
    """One rare, huge value between two convolutions: the classic reason for bad int8."""
    victim = convolutions(prepared)[9]
    nodes = {node.name: node for node in prepared.graph.node}
    makers = {node.output[0]: node for node in prepared.graph.node}
    tensor = nodes[victim].input[0]
    before = makers[makers[tensor].input[0]]  # a convolution, and its activation
    assert (before.op_type, makers[tensor].op_type) == ("Conv", "Relu")
    low, high = ranges[tensor]
    spoilt = {**ranges, tensor: (SPREAD * low, SPREAD * high)}
    ranking = rank_layers(prepared, spoilt, inputs(4))
    assert {each.convolution for each in ranking[:2]} == {victim, before.name}
    assert ranking[1].error > 100 * ranking[2].error


def test_progress_is_reported_for_each_convolution(prepared, ranges):
    reports = []
    rank_layers(prepared, ranges, inputs(1), report=lambda _, *done: reports.append(done))
    assert reports == [(number, 20) for number in range(1, 21)]


@pytest.mark.parametrize("given", [3, 200])
def test_it_takes_a_bounded_number_of_images(prepared, ranges, given, monkeypatch):
    monkeypatch.setattr("perception_node.calibration.sensitivity.RUNS", 200)
    taken = []

    def endless():
        for each in inputs(given):
            taken.append(each)
            yield each

    found = rank_layers(prepared, ranges, endless())
    assert found[0].images == len(taken) == min(given, 10)


def test_the_bound_is_about_the_runs_of_the_network():
    assert RUNS // 49 == 65 > MOST_IMAGES
    assert FEWEST_IMAGES < RUNS // 150 < MOST_IMAGES


def test_no_images_are_refused(prepared, ranges):
    with pytest.raises(CalibrationError, match="no images to measure the layers on"):
        rank_layers(prepared, ranges, [])


def test_the_model_is_not_changed(prepared, ranges):
    before = prepared.SerializeToString()
    rank_layers(prepared, ranges, inputs(1))
    assert prepared.SerializeToString() == before
