# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import onnx
import pytest

from perception_node.engines.multiplications import int8_share, multiplications, tensor_shapes
from perception_node.engines.onnx_graph import Constants
from tests.calibration_builders import quantize, small_network
from tests.int8_builders import pictures, quantized_network

# Three convolutions of 16x16 pixels, the second depthwise, and a layer of 16 to 3.
COUNTS = [16 * 16 * 8 * 3 * 9, 16 * 16 * 8 * 9, 16 * 16 * 16 * 8, 16 * 3]


def counts(content):
    model = onnx.load_model_from_string(content)
    return multiplications(model.graph, Constants(model.graph), tensor_shapes(model))


def test_multiplications_are_counted_by_hand():
    assert list(counts(small_network()).values()) == COUNTS


def test_shapes_that_the_model_leaves_open_are_found_by_a_run():
    model = onnx.load_model_from_string(small_network())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert list(counts(model.SerializeToString()).values()) == COUNTS


def test_a_float_model_has_no_share():
    assert int8_share(onnx.load_model_from_string(small_network())) == 0.0


def test_what_stays_float_does_not_count():
    """For TensorRT the depthwise convolution and the last layer do."""
    model = onnx.load_model_from_string(quantize(small_network(), pictures(2)))
    assert int8_share(model) == pytest.approx((COUNTS[0] + COUNTS[2]) / sum(COUNTS))


def test_integer_products_of_a_dynamic_model_count(tmp_path):
    model = onnx.load_model_from_string(quantized_network("dynamic", tmp_path))
    assert int8_share(model) == 1.0
