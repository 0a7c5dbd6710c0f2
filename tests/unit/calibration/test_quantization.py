# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from perception_node.calibration.bias_correction import channel_means
from perception_node.calibration.quantization import (
    convolutions,
    prepare,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from perception_node.calibration.ranges import measure
from perception_node.errors import CalibrationError, EngineBuildError
from tests.builders import color_network
from tests.calibration_builders import SIDE as SMALL_SIDE
from tests.calibration_builders import quantize, small_network
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
    with pytest.raises(CalibrationError, match="no images to calibrate with"):
        quantize(original, [])


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(EngineBuildError, match="no convolution"):
        quantize(color_network(), batches(1))


def test_what_is_no_model_is_refused():
    with pytest.raises(EngineBuildError, match="cannot be quantised"):
        quantize(b"garbage", batches(1))


@pytest.fixture(scope="module")
def small():
    """A prepared network with ReLU6 and a depthwise convolution, and inputs for it."""
    random = np.random.default_rng(2)
    shape = (1, 3, SMALL_SIDE, SMALL_SIDE)
    inputs = [random.uniform(0, 1, shape).astype(np.float32) for _ in range(6)]
    return prepare(small_network()), inputs


@pytest.fixture(scope="module")
def ranges(small):
    return measure(small[0], iter(small[1]))


FLAVOURS = {"tensorrt": quantize_for_tensorrt, "cpu": quantize_for_cpu}


def error(model, small):
    prepared, inputs = small
    pairs = [(run(model, each), run(prepared.SerializeToString(), each)) for each in inputs]
    return float(np.mean([((found - expected) ** 2).mean() for found, expected in pairs])) ** 0.5


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_both_flavours_answer_nearly_as_the_original(small, ranges, flavour):
    model = FLAVOURS[flavour](small[0], ranges)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert error(model, small) < 0.05


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_corrected_biases_make_the_error_smaller(small, ranges, flavour):
    means = channel_means(small[0], iter(small[1]))
    corrected = FLAVOURS[flavour](small[0], ranges, means=means)
    assert error(corrected, small) < error(FLAVOURS[flavour](small[0], ranges), small)


def zero_points(model):
    names = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    return [
        names[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"
    ]


def test_the_cpu_gets_unsigned_activations_and_no_activation_function(small, ranges):
    model = onnx.load_from_string(quantize_for_cpu(small[0], ranges))
    assert set(zero_points(model)) == {np.dtype(np.uint8)}
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] == 3
    assert kinds["Clip"] == 0


def test_tensorrt_gets_depthwise_convolutions_in_float(small, ranges):
    model = onnx.load_from_string(quantize_for_tensorrt(small[0], ranges))
    makers = {name: node for node in model.graph.node for name in node.output}
    quantised = {
        node.name: makers[node.input[0]].op_type == "DequantizeLinear"
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    assert [quantised[name] for name in convolutions(small[0])] == [True, False, True]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_all_in_float_is_exact_but_for_the_input(small, ranges, flavour):
    every = convolutions(small[0])
    assert error(FLAVOURS[flavour](small[0], ranges, every), small) < 1e-5


def test_what_is_excluded_stays_float_in_onnx_runtime_too(small, ranges, tmp_path):
    """It likes to quantise what lies between two quantised tensors."""
    name = convolutions(small[0])[1]
    model = quantize_for_cpu(small[0], ranges, [name])
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4  # that the result is for this machine only
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["QLinearConv"] == 2
    assert found["Conv"] + found["FusedConv"] == 1


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_tensors_that_are_always_zero_get_a_scale(small, flavour):
    prepared, inputs = small
    zero = dict.fromkeys(measure(prepared, inputs[:1]), (0.0, 0.0))
    model = onnx.load_from_string(FLAVOURS[flavour](prepared, zero))
    for each in model.graph.initializer:
        if each.name.lower().endswith("scale"):
            scale = numpy_helper.to_array(each)
            assert np.isfinite(scale).all()
            assert (scale > 0).all()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_ranges_of_another_model_are_refused(small, flavour):
    with pytest.raises(CalibrationError, match=r"does not fit the model: .*calibrate this"):
        FLAVOURS[flavour](small[0], {"other": (0.0, 1.0)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value):
    with pytest.raises(CalibrationError, match="weights hold NaN or infinite values; export"):
        prepare(small_network(weight=value))
