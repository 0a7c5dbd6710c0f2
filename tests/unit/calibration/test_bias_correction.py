# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from perception_node.calibration.bias_correction import channel_means, correct_biases
from perception_node.calibration.quantization import convolutions, prepare
from perception_node.errors import CalibrationError
from tests.calibration_builders import SIDE, small_network


@pytest.fixture(scope="module")
def model():
    return prepare(small_network())


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    return [random.uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(3)]


def biases(model, names=None):
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    return {node.name: values[node.input[2]] for node in nodes if not names or node.name in names}


def test_means_are_those_of_each_channel_of_what_enters_a_convolution(model, inputs):
    means = channel_means(model, iter(inputs))
    assert len(means) == 3
    expected = np.concatenate(inputs).mean((0, 2, 3))
    np.testing.assert_allclose(means["image"], expected, rtol=1e-5)


def test_the_mean_of_what_leaves_a_convolution_stays(model, inputs):
    """With values that are the same everywhere, rounding errors are known exactly."""
    corrected = onnx.ModelProto.FromString(model.SerializeToString())
    means = channel_means(model, iter(inputs))
    correct_biases(corrected, means, ())
    name = convolutions(model)[0]
    node = next(node for node in model.graph.node if node.name == name)
    weights = next(
        numpy_helper.to_array(each)
        for each in model.graph.initializer
        if each.name == node.input[1]
    )
    scale = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
    rounded = np.round(weights / scale) * scale
    entering = means["image"][None, :, None, None]
    before = (weights * entering).sum((1, 2, 3)) + biases(model)[name]
    after = (rounded * entering).sum((1, 2, 3)) + biases(corrected)[name]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_what_stays_float_keeps_its_bias(model, inputs):
    corrected = onnx.ModelProto.FromString(model.SerializeToString())
    first, *others = convolutions(model)
    correct_biases(corrected, channel_means(model, iter(inputs)), [first])
    before, after = biases(model), biases(corrected)
    np.testing.assert_array_equal(after[first], before[first])
    assert all((after[name] != before[name]).any() for name in others)


def test_no_images_are_an_error(model):
    with pytest.raises(CalibrationError, match="there are no images"):
        channel_means(model, [])
