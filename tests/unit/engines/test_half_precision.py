# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from perception_node.engines.half_precision import to_half_precision
from perception_node.errors import EngineBuildError
from tests.builders import ROOT, SIDE, color_network
from tests.calibration_builders import quantize
from tests.tensorrt_builders import resnet18

# ONNX Runtime 1.23, the last one for Python 3.10, rounds half of all float16 to another int8 step.
LIMIT = 0.25 if ort.__version__.startswith("1.23.") else 0.1
UNOPTIMIZED = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def run(model, values):
    options = ort.SessionOptions()
    # ONNX Runtime 1.32 folds float16 scales wrongly when it optimises; TensorRT is what reads them
    options.graph_optimization_level = UNOPTIMIZED
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def noise(side, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (1, 3, side, side)).astype(np.float32)


def largest_difference(found, expected):
    return np.abs(found - expected).max() / np.ptp(expected)


@pytest.fixture(scope="module")
def resnet():
    return resnet18(side=32, width=8)


def test_the_inside_is_float16_and_the_outside_stays_float32(resnet):
    model = onnx.load_from_string(to_half_precision(resnet))
    ends = [*model.graph.input, *model.graph.output]
    assert [end.name for end in ends] == ["image", "logits"]
    assert {end.type.tensor_type.elem_type for end in ends} == {TensorProto.FLOAT}
    assert {weight.data_type for weight in model.graph.initializer} == {TensorProto.FLOAT16}
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 2


def test_the_result_is_a_valid_model_half_as_large(resnet):
    converted = to_half_precision(resnet)
    onnx.checker.check_model(onnx.load_from_string(converted), full_check=True)
    assert len(converted) == pytest.approx(len(resnet) / 2, rel=0.05)


def test_it_computes_the_same_within_half_precision(resnet):
    values = noise(32)
    assert largest_difference(run(to_half_precision(resnet), values), run(resnet, values)) < 0.01


def test_the_default_model_computes_the_same_within_half_precision():
    model = (ROOT / "models/efficientnet_lite0/model.onnx").read_bytes()
    values = noise(224)
    assert largest_difference(run(to_half_precision(model), values), run(model, values)) < 0.01


def test_a_quantised_model_keeps_its_int8_and_its_answers(resnet):
    quantized = quantize(resnet, [noise(32, seed) for seed in range(4)])
    converted = to_half_precision(quantized)
    model = onnx.load_from_string(converted)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 40
    assert kinds["Cast"] == 2
    assert {weight.data_type for weight in model.graph.initializer} == {
        TensorProto.FLOAT16,
        TensorProto.INT8,
    }
    values = noise(32)
    # not nearer: between two int8 steps, half precision may decide otherwise
    for model, limit in ((quantized, 0.1), (converted, LIMIT)):
        assert largest_difference(run(model, values), run(resnet, values)) < limit


def test_weights_too_small_for_float16_do_not_become_scales_of_zero():
    """A channel that is all but dead has a scale far below the smallest float16."""
    model = onnx.load_from_string(resnet18(side=32, width=8))
    stem = next(each for each in model.graph.initializer if list(each.dims) == [8, 3, 7, 7])
    weights = onnx.numpy_helper.to_array(stem).copy()
    weights[5] = 1e-9
    stem.CopyFrom(onnx.numpy_helper.from_array(weights, stem.name))
    quantized = quantize(model.SerializeToString(), [noise(32)])
    assert np.isfinite(run(to_half_precision(quantized), noise(32))).all()


def test_the_same_model_gives_the_same_bytes_in_every_process():
    script = (
        "import hashlib; from tests.builders import color_network\n"
        "from perception_node.engines.half_precision import to_half_precision\n"
        "print(hashlib.sha256(to_half_precision(color_network())).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_small_network_of_other_operators_can_be_converted():
    values = np.full((1, 3, SIDE, SIDE), 0.5, np.float32)
    assert run(to_half_precision(color_network()), values) == pytest.approx(
        run(color_network(), values), rel=1e-2
    )


@pytest.mark.parametrize("model", [b"", b"garbage", b"\x08\x01"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(EngineBuildError, match="cannot be converted to float16"):
        to_half_precision(model)
