# SPDX-License-Identifier: Apache-2.0
"""Models that came quantised: what they are, and what is left without their quantisers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.graph.dequantized import to_float
from perception_node.engines.importing.graph.findings import Findings
from perception_node.engines.importing.graph.inspection import inspect
from perception_node.engines.importing.graph.int8_models import (
    for_tensorrt,
    split_quantized,
    why_not_tensorrt,
)
from perception_node.engines.importing.graph.loading import load_model
from perception_node.engines.importing.graph.quantized import quantized_form, to_pairs
from perception_node.errors import ConversionError
from perception_node.model.onnx_file import QUANTIZERS
from tests.builders import to_onnx
from tests.calibration_builders import small_network
from tests.int8_builders import (
    CASES,
    FOR_TENSORRT,
    clipped_network,
    operators,
    pictures,
    quantized_network,
)

PATH = Path("model.onnx")


def run(model, values):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(
        None, {"image": values}
    )[0]


def error(found, expected):
    """Return the largest difference as a part of the range of the outputs."""
    inputs = pictures(4, seed=9)
    rows = np.stack([run(expected, each) for each in inputs])
    others = np.stack([run(found, each) for each in inputs])
    return np.abs(others - rows).max() / np.ptp(rows)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def model(case, tmp_path_factory):
    return load_model(PATH, quantized_network(case, tmp_path_factory.mktemp("quantized")), [])


def test_its_form_is_a_fact_of_the_import(model, case):
    expected = "integer operators" if "integer" in case else "Q/DQ"
    expected = "dynamic" if case == "dynamic" else expected
    assert inspect(PATH, model, {}, Findings()).quantized.startswith(expected)


def test_what_the_scores_are_is_seen_behind_integers(model):
    assert inspect(PATH, model, {}, Findings()).head.kind == "logits"


def test_a_float_model_has_no_form():
    assert quantized_form(PATH, load_model(PATH, small_network(), [])) == ""


def test_pairs_around_float_operators_compute_the_same(model):
    assert error(to_pairs(PATH, model), model) < 1e-5


def test_without_its_quantisers_it_answers_as_the_float_model_did(model):
    """Quantisers that cut off what is below 0 are the only ReLU that ONNX Runtime leaves."""
    found = to_float(PATH, to_pairs(PATH, model))
    assert not operators(found.SerializeToString()) & QUANTIZERS
    onnx.checker.check_model(found, full_check=True)
    assert error(found, small_network()) < 0.02


def test_what_tensorrt_refuses_is_said_before_it_is_asked(model, case):
    problem = why_not_tensorrt(to_pairs(PATH, model))
    assert (problem == "") == (case in FOR_TENSORRT)
    words = {"asymmetric": "zero point", "dynamic": "for each image"}
    assert words.get(case, "") in problem


def test_tensorrt_has_no_unsigned_integers():
    assert why_not_tensorrt(quantizer(TensorProto.UINT8)) == "image is quantised to uint8"
    without = quantizer(TensorProto.UINT8)
    for node in without.graph.node:
        del node.input[2]
    assert why_not_tensorrt(without) == "image is quantised to uint8"


@pytest.mark.parametrize("name", ["asymmetric", "integer operators, per channel"])
def test_models_of_older_opsets_are_understood_too(name, tmp_path):
    network = onnx.load_model_from_string(small_network())
    network.opset_import[0].version = 12
    content = quantized_network(name, tmp_path, network.SerializeToString())
    model = load_model(PATH, content, [])
    assert min(each.version for each in model.opset_import if not each.domain) <= 13
    _, blobs = split_quantized(PATH, model, None)
    assert error(blobs["model"], small_network()) < 0.02


@pytest.mark.parametrize("name", sorted(FOR_TENSORRT))
def test_for_tensorrt_biases_are_float_and_weights_have_pairs(name, tmp_path):
    model = load_model(PATH, quantized_network(name, tmp_path), [])
    found = for_tensorrt(PATH, model)
    assert error(found, model) < 1e-5
    constants = {each.name: each.data_type for each in found.graph.initializer}
    read = {n.input[0] for n in found.graph.node if n.op_type == "DequantizeLinear"}
    assert not read & constants.keys()


def test_a_bundle_gets_three_models_or_two(model, case):
    about, blobs = split_quantized(PATH, model, None)
    assert set(blobs) == {"model", "cpu"} | ({"tensorrt"} if case in FOR_TENSORRT else set())
    assert about["int8_share"] == 1.0
    assert blobs["cpu"] == model.SerializeToString(deterministic=True)


def test_a_float_parent_takes_the_names_of_the_quantised_model(tmp_path):
    model = load_model(PATH, quantized_network("symmetric", tmp_path), [])
    parent = load_model(PATH, small_network().replace(b"image", b"Photo"), [])
    _, blobs = split_quantized(PATH, model, parent.SerializeToString())
    assert error(blobs["model"], small_network()) == 0.0


def test_a_parent_of_another_size_is_refused(tmp_path):
    model = load_model(PATH, quantized_network("symmetric", tmp_path), [])
    other = load_model(PATH, small_network(), [])
    other.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 8
    with pytest.raises(ConversionError, match=r"its input is \[1, 3, 16, 16\], that of --float-p"):
        split_quantized(PATH, model, other.SerializeToString())


def test_integers_that_are_clipped_are_symmetric_and_lose_the_clip():
    model = load_model(PATH, clipped_network(), [])
    about, blobs = split_quantized(PATH, model, None)
    assert about == {"int8_share": 1.0, "no_tensorrt": ""}
    assert operators(blobs["model"]) == {"Conv", "GlobalAveragePool", "Flatten"}


def quantizer(kind, zero=0):
    """Return a model with one pair for what enters, of this type of ONNX."""
    values = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", kind, [], [zero]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4])
        for name in ("image", "logits")
    ]
    return onnx.load_model_from_string(
        to_onnx(helper.make_graph(nodes, "q", *[[e] for e in ends], values))
    )


@pytest.mark.parametrize("kind", ["INT16", "UINT16", "FLOAT8E4M3FN", "INT4", "UINT4"])
def test_what_is_not_int8_is_refused_by_its_name(kind):
    number = getattr(TensorProto, kind, None)
    if number is None:
        pytest.skip(f"this onnx has no {kind}")
    with pytest.raises(
        ConversionError, match=f"quantised to {kind.lower()}; export it as float32"
    ):
        quantized_form(PATH, quantizer(number))


@settings(max_examples=60, deadline=None)
@given(st.integers(-128, 127), st.floats(2**-10, 1.0, width=32))
def test_a_zero_point_at_an_end_of_the_range_is_a_cut(zero, scale):
    model = quantizer(TensorProto.INT8, zero)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(scale), "scale"))
    values = np.linspace(-300 * scale, 300 * scale, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    found, expected = (run(each, values) for each in (to_float(PATH, model), model))
    inside = (expected > (-128 - zero) * scale) & (expected < (127 - zero) * scale)
    assert np.abs(found - expected)[inside].max(initial=0) <= 0.51 * scale
    if zero in {-128, 127}:
        assert np.abs(found - expected).max() <= 0.51 * scale


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    cases = ("symmetric, per channel", "integer operators, per channel", "dynamic")
    folder = tmp_path_factory.mktemp("originals")
    return [quantized_network(case, folder) for case in cases]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_models_are_refused_or_understood(originals, data):
    """Nothing but a ConversionError: in the child, all else is a fault of ours."""
    model = onnx.load_model_from_string(data.draw(st.sampled_from(originals)))
    node = data.draw(st.sampled_from(model.graph.node))
    tensor = data.draw(st.sampled_from(model.graph.initializer))
    damage = data.draw(st.sampled_from(["input", "swap", "dims", "type", "attribute", "gone"]))
    if damage == "input" and node.input:
        del node.input[data.draw(st.integers(0, len(node.input) - 1))]
    elif damage == "swap" and node.input:
        node.input[data.draw(st.integers(0, len(node.input) - 1))] = tensor.name
    elif damage == "dims":
        tensor.dims[:] = data.draw(st.lists(st.integers(0, 4), max_size=4))
    elif damage == "type":
        tensor.data_type = data.draw(st.integers(1, 16))
    elif damage == "attribute":
        node.attribute.append(helper.make_attribute("axis", data.draw(st.integers(-9, 9))))
    elif damage == "gone":
        model.graph.initializer.remove(tensor)
    try:
        loaded = load_model(PATH, model.SerializeToString(), [])
        inspect(PATH, loaded, {}, Findings())
        split_quantized(PATH, loaded, None)
    except ConversionError:
        pass


def test_what_was_never_quantised_asks_for_the_float_parent():
    model = quantizer(TensorProto.INT8)
    del model.graph.node[0]
    model.graph.input[0].name = "q"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(ConversionError, match=r"nothing has quantised it.*--float-parent BUNDLE"):
        to_float(PATH, model)
