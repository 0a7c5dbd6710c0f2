# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from perception_node.calibration.quantization import quantize
from perception_node.errors import ConfigError, EngineBuildError
from tests.builders import color_network
from tests.tensorrt_builders import resnet18

SIDE = 32


def batches(count=4, scale=1.0):
    random = np.random.default_rng(1)
    return [random.normal(0, scale, (1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(count)]


def run(model, values):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": values})[0]


@pytest.fixture(scope="module")
def original():
    return resnet18(side=SIDE, width=8)


@pytest.fixture(scope="module")
def quantized_bytes(original):
    return quantize(original, batches())


@pytest.fixture(scope="module")
def quantized(quantized_bytes):
    return onnx.load_from_string(quantized_bytes)


@pytest.fixture(scope="module")
def makers(quantized):
    return {name: node for node in quantized.graph.node for name in node.output}


@pytest.fixture(scope="module")
def weights(quantized):
    return {each.name: numpy_helper.to_array(each) for each in quantized.graph.initializer}


def test_it_is_a_valid_model_with_the_same_ends(quantized):
    onnx.checker.check_model(quantized, full_check=True)
    assert [end.name for end in quantized.graph.input] == ["image"]
    assert [end.name for end in quantized.graph.output] == ["logits"]
    assert [each.domain for each in quantized.opset_import] == [""]


def test_input_and_weights_of_every_convolution_are_quantised(quantized, makers):
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20
    for node in convolutions:
        activation, weight, *bias = node.input
        assert makers[activation].op_type == makers[weight].op_type == "DequantizeLinear"
        assert all(name not in makers for name in bias)


def test_batch_normalisation_is_folded_into_the_convolutions(quantized):
    assert "BatchNormalization" not in {node.op_type for node in quantized.graph.node}


def test_scales_are_symmetric_per_channel_for_weights_and_per_tensor_for_the_rest(
    quantized, weights
):
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = weights[node.input[1]], weights[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            source = weights.get(node.input[0])
            assert scale.shape == (() if source is None else (source.shape[0],))


def test_every_residual_block_adds_one_branch_as_int8_and_one_as_it_is(quantized, makers):
    additions = [node for node in quantized.graph.node if node.op_type == "Add"]
    assert len(additions) == 8
    for node in additions:
        kinds = sorted(makers[name].op_type for name in node.input)
        assert kinds == ["Conv", "DequantizeLinear"]


def test_the_branch_added_as_int8_is_the_shortcut(quantized, makers):
    """Of a block that halves the image, that is the convolution of 1x1."""
    added = [
        makers[name]
        for node in quantized.graph.node
        if node.op_type == "Add"
        for name in node.input
        if makers[name].op_type == "DequantizeLinear"
    ]
    sources = [makers[makers[node.input[0]].input[0]] for node in added]
    shortcuts = [node for node in sources if node.op_type == "Conv"]
    assert len(shortcuts) == 3
    for node in shortcuts:
        kernel = next(each.ints for each in node.attribute if each.name == "kernel_shape")
        assert list(kernel) == [1, 1]


def test_nothing_comes_between_a_convolution_and_its_activation(quantized, makers):
    for node in quantized.graph.node:
        if node.op_type == "Relu":
            assert makers[node.input[0]].op_type in {"Conv", "Add"}


def test_the_classifier_stays_float(quantized, makers):
    (gemm,) = [node for node in quantized.graph.node if node.op_type == "Gemm"]
    assert makers[gemm.input[0]].op_type != "DequantizeLinear"


def test_it_answers_nearly_as_the_original(original, quantized_bytes):
    for values in batches():
        expected, found = run(original, values), run(quantized_bytes, values)
        assert np.abs(found - expected).max() / np.ptp(expected) < 0.05


def test_ranges_are_those_of_the_batches(original):
    def input_scale(model):
        proto = onnx.load_from_string(model)
        names = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
        node = next(n for n in proto.graph.node if n.input[0] == "image")
        return float(names[node.input[1]])

    values = batches(2, scale=3.0)
    expected = max(np.abs(each).max() for each in values) / 127
    assert input_scale(quantize(original, iter(values))) == pytest.approx(expected, rel=0.01)


def test_the_same_images_give_the_same_bytes(original, quantized_bytes):
    assert quantize(original, batches()) == quantized_bytes


def test_models_of_old_opsets_are_brought_up_to_date(original):
    model = onnx.load_from_string(original)
    model.opset_import[0].version = 11
    found = onnx.load_from_string(quantize(model.SerializeToString(), batches(1)))
    assert found.opset_import[0].version >= 13
    assert Counter(node.op_type for node in found.graph.node)["QuantizeLinear"] == 40


def test_no_images_are_an_error(original):
    with pytest.raises(ConfigError, match="no images to calibrate with"):
        quantize(original, [])


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(EngineBuildError, match="no convolution"):
        quantize(color_network(), batches(1))


def test_what_is_no_model_is_refused():
    with pytest.raises(EngineBuildError, match="cannot be quantised"):
        quantize(b"garbage", batches(1))
