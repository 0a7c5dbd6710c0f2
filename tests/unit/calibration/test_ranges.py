# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.calibration import ranges as module
from perception_node.calibration.quantization import prepare
from perception_node.calibration.ranges import measure, narrow
from perception_node.errors import CalibrationError
from tests.calibration_builders import SIDE, small_network

pytestmark = pytest.mark.slow

METHODS = ("minmax", "percentile", "mse", "entropy")


@pytest.fixture(scope="module")
def model():
    return prepare(small_network())


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(6)]


@pytest.fixture(scope="module")
def extremes(model, inputs):
    return measure(model, iter(inputs))


@pytest.fixture(scope="module")
def narrowed(model, inputs, extremes):
    return narrow(model, iter(inputs), extremes, METHODS)


def test_extremes_are_the_smallest_and_largest_value_of_all_inputs(extremes, inputs):
    assert extremes["image"] == (min(map(np.min, inputs)), max(map(np.max, inputs)))


def test_every_activation_has_a_range(model, extremes):
    made = {name for node in model.graph.node for name in node.output}
    assert made <= set(extremes)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_gives_a_wider_or_an_empty_range(narrowed, extremes, method):
    assert narrowed[method].keys() == extremes.keys()
    for name, (low, high) in narrowed[method].items():
        assert extremes[name][0] <= low < high <= extremes[name][1]


def test_rare_large_values_are_cut_off_by_all_but_minmax(model, inputs):
    outlier = inputs[0].copy()
    outlier[0, 0, 0, 0] = 100.0
    inputs = [outlier, *inputs[1:] * 8]
    extremes = measure(model, iter(inputs))
    found = narrow(model, iter(inputs), extremes, METHODS)
    assert found["minmax"]["image"][1] == 100.0
    assert found["percentile"]["image"][1] < 50.0
    assert found["mse"]["image"][1] < 100.0
    assert found["entropy"]["image"][1] < 50.0


def test_a_black_first_image_makes_no_more_bins(model, inputs, monkeypatch):
    seen = []
    choose = module._choose
    monkeypatch.setattr(
        module,
        "_choose",
        lambda collector, *rest: seen.append(collector) or choose(collector, *rest),
    )
    inputs = [inputs[0] * 1e-9, *inputs]
    narrow(model, iter(inputs), measure(model, iter(inputs)), ("percentile",))
    sizes = [len(histogram[0]) for histogram in seen[0].histogram_dict.values()]
    assert max(sizes) <= module.BINS + 2


def test_a_tensor_that_is_always_zero_keeps_its_range(model, inputs):
    zeros = [np.zeros_like(each) for each in inputs]
    found = narrow(model, iter(zeros), measure(model, iter(zeros)), METHODS)
    for method in METHODS:
        assert found[method]["image"] == (0.0, 0.0)


def test_the_inputs_are_read_one_by_one(model, inputs):
    alive, most = 0, 0

    class Values(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def one_by_one():
        nonlocal alive, most
        for each in inputs * 4:
            alive += 1
            most = max(most, alive)
            yield each.copy().view(Values)

    measure(model, one_by_one())
    assert most < 6


def test_no_inputs_are_an_error(model):
    with pytest.raises(CalibrationError, match="no images to calibrate with"):
        measure(model, [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_no_numbers_are_an_error(model, inputs, extremes, value):
    broken = np.full_like(inputs[0], value)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        measure(model, [inputs[0], broken])
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        narrow(model, [inputs[0], broken], extremes, ("mse",))
