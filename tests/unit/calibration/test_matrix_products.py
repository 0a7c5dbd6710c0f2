# SPDX-License-Identifier: Apache-2.0
"""Transformers are quantised: their matrix products, balanced where a channel is far larger."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from perception_node.calibration.balancing import balance
from perception_node.calibration.matrix_products import matrix_products, other_products
from perception_node.calibration.quantization import (
    prepare,
    quantizable,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from perception_node.calibration.ranges import measure
from perception_node.engines.multiplications import int8_share
from perception_node.errors import CalibrationError
from tests.builders import to_onnx
from tests.int8_builders import pictures, small_transformer
from tests.tensorrt_builders import Graph, resnet18

FLAVOURS = {"tensorrt": quantize_for_tensorrt, "cpu": quantize_for_cpu}
LAYERS = 12  # query, key, value, output and two of the perceptron, twice


def run(model, values):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": values})[0]


def error(found, expected):
    """Return the root mean square of the differences as a part of the range."""
    inputs = pictures(8, seed=9)
    rows = np.stack([run(expected, each) for each in inputs])
    others = np.stack([run(found, each) for each in inputs])
    return float(np.sqrt(((others - rows) ** 2).mean()) / np.ptp(rows))


@pytest.fixture(scope="module")
def plain():
    return small_transformer()


@pytest.fixture(scope="module")
def trained():
    """One channel is 50 times as large as the others, as in transformers that were trained."""
    return small_transformer(outlier=50.0)


def test_products_of_several_rows_are_quantised_and_the_head_is_not(plain):
    prepared = prepare(plain)
    assert len(matrix_products(prepared)) == LAYERS
    assert "head" in other_products(prepared)
    assert len(other_products(prepared)) == 5  # and two in each attention
    assert len(quantizable(prepared)) == LAYERS + 1  # the patches


def test_a_convolutional_network_has_none():
    prepared = prepare(resnet18(side=32, width=8))
    assert matrix_products(prepared) == []
    assert len(other_products(prepared)) == 1


def test_only_what_is_quantised_is_measured(plain):
    prepared = prepare(plain)
    assert len(measure(prepared, pictures(2))) < len(prepared.graph.node) / 3


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_most_multiplications_are_int8_and_the_answers_nearly_the_same(plain, flavour):
    prepared = prepare(plain)
    model = FLAVOURS[flavour](prepared, measure(prepared, pictures(32)))
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    assert int8_share(onnx.load_model_from_string(model)) == pytest.approx(0.927, abs=0.001)
    assert error(model, plain) < 0.02


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_balancing_takes_most_of_the_error_of_a_large_channel(trained, flavour):
    prepared = prepare(trained)
    balanced = balance(prepared, pictures(32))
    before, after = (
        error(FLAVOURS[flavour](each, measure(each, pictures(32))), trained)
        for each in (prepared, balanced)
    )
    assert before > 0.04
    assert after < 0.01


def test_balancing_changes_nothing_in_float(trained):
    prepared = prepare(trained)
    balanced = balance(prepared, pictures(8)).SerializeToString()
    assert balanced != prepared.SerializeToString()
    assert error(balanced, trained) < 1e-5


def test_excluded_products_stay_float(plain):
    prepared = prepare(plain)
    every = quantizable(prepared)
    model = quantize_for_cpu(prepared, measure(prepared, pictures(4)), every)
    assert int8_share(onnx.load_model_from_string(model)) == 0.0


def test_on_a_cpu_they_are_computed_in_integers(plain, tmp_path):
    prepared = prepare(plain)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    model = quantize_for_cpu(prepared, measure(prepared, pictures(4)))
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    integer = [name for name in found if name in {"QGemm", "MatMulIntegerToFloat"}]
    assert len(integer) == LAYERS


def next_convolutional_network():
    """Return a block of ConvNeXt: a depthwise convolution, then products over the channels."""
    graph, width = Graph(6), 16
    x = graph.add("Conv", ["image", graph.noise(width, 3, 4, 4, scale=0.15)], strides=[4, 4])
    kernel = graph.noise(width, 1, 3, 3, scale=0.3)
    y = graph.add("Conv", [x, kernel], group=width, pads=[1] * 4)
    y = graph.add("Transpose", [y], perm=[0, 2, 3, 1])
    ones, zeros = graph.weight(np.ones(width)), graph.weight(np.zeros(width))
    y = graph.add("LayerNormalization", [y, ones, zeros], axis=-1)
    y = graph.add("MatMul", [y, graph.noise(width, 4 * width, scale=0.25)])
    y = graph.add("Relu", [graph.add("Add", [y, graph.noise(4 * width, scale=0.1)])])
    y = graph.add("MatMul", [y, graph.noise(4 * width, width, scale=0.12)])
    y = graph.add("Transpose", [y], perm=[0, 3, 1, 2])
    x = graph.add("GlobalAveragePool", [graph.add("Add", [x, y])])
    last = [graph.add("Flatten", [x]), graph.noise(width, 3)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 3, 16, 16]), ("logits", [1, 3]))
    ]
    nodes = [*graph.nodes, helper.make_node("MatMul", last, ["logits"], name="head")]
    return to_onnx(helper.make_graph(nodes, "next", ends[:1], ends[1:], graph.weights))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_depthwise_convolutions_beside_matrix_products_stay_float(flavour):
    original = next_convolutional_network()
    prepared = prepare(original)
    assert len(matrix_products(prepared)) == 2
    assert len(quantizable(prepared)) == 4
    model = FLAVOURS[flavour](prepared, measure(prepared, pictures(16)))
    patches, depthwise, products = 16 * 16 * 48, 16 * 16 * 9, 2 * 16 * 16 * 64
    share = (patches + products) / (patches + depthwise + products + 48)
    assert int8_share(onnx.load_model_from_string(model)) == pytest.approx(share)
    assert error(model, original) < 0.02


@pytest.mark.parametrize("inputs", [[], [np.full((1, 3, 16, 16), np.nan, np.float32)]])
def test_without_good_images_nothing_is_balanced(plain, inputs):
    with pytest.raises(CalibrationError, match=r"no images, or .* not finite"):
        balance(prepare(plain), inputs)
