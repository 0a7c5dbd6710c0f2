# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from perception_node.engines.tensorrt.api import TensorRt
from perception_node.engines.tensorrt.inspection import (
    Layer,
    check_precision,
    inspect_plan,
    layers_of_engine,
    layers_of_network,
    precision_table,
)
from perception_node.errors import EngineBuildError, EngineError
from tests.tensorrt_versions import StandinVersion


def tensor(name, dtype):
    return SimpleNamespace(name=name, dtype=SimpleNamespace(name=dtype))


def node(name, kind, inputs, output):
    return SimpleNamespace(
        name=name,
        type=SimpleNamespace(name=kind),
        num_inputs=len(inputs),
        get_input=lambda index: inputs[index],
        get_output=lambda _index: output,
    )


def network(*nodes):
    return SimpleNamespace(num_layers=len(nodes), get_layer=lambda index: nodes[index])


def test_layers_of_a_network_have_the_type_of_what_they_read():
    x, y, z = tensor("x", "FLOAT"), tensor("y", "HALF"), tensor("z", "HALF")
    layers = layers_of_network(
        network(
            node("cast", "CAST", [x], y),
            node("a", "CONVOLUTION", [y], z),
            node("b", "MATRIX_MULTIPLY", [z], z),
            node("c", "CONSTANT", [], z),
        )
    )
    assert layers == (
        Layer("cast", "Cast", "fp32"),
        Layer("a", "Convolution", "fp16"),
        Layer("b", "MatrixMultiply", "fp16"),
        Layer("c", "Constant", "fp16"),
    )


def test_a_convolution_of_a_dequantised_tensor_is_int8():
    q, d, y = tensor("q", "INT8"), tensor("d", "HALF"), tensor("y", "HALF")
    layers = layers_of_network(
        network(
            node("dq", "DEQUANTIZE", [q], d),
            node("a", "CONVOLUTION", [d], y),
            node("b", "ELEMENTWISE", [d], y),
        )
    )
    assert [layer.precision for layer in layers] == ["int8", "int8", "fp16"]


# Layers as TensorRT's inspector describes them, in the words of several versions
ENGINE = [
    (
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8"}],
            "Weights": {"Type": "Int8", "Count": 131072},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw",
        },
        Layer("conv1 + relu1", "Convolution", "int8"),
    ),
    (
        {
            "Name": "conv2",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "Weights": {"Type": "Half", "Count": 864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc",
        },
        Layer("conv2", "Convolution", "fp16"),
    ),
    (
        {
            "Name": "conv3",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Format/Datatype": "Row major linear FP32"}],
            "Weights": {"Type": "Float", "Count": 864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nchw",
        },
        Layer("conv3", "Convolution", "fp32"),
    ),
    (
        {
            "Name": "fc",
            "LayerType": "gemm",
            "Inputs": [{"Format/Datatype": "Half"}],
            "TacticName": "ampere_h16816gemm_64x64_ldg8_nn_v1",
        },
        Layer("fc", "MatrixMultiply", "fp16"),
    ),
    (
        {
            "Name": "fc2",
            "LayerType": "CaskGemmMatrixMultiply",
            "Inputs": [{"Format/Datatype": "Float"}],
            "TacticName": "sm80_xmma_gemm_f32f32_f32f32_f32_nn",
        },
        Layer("fc2", "MatrixMultiply", "fp32"),
    ),
    (
        {
            "Name": "up",
            "LayerType": "CaskDeconvolutionV2",
            "Inputs": [{"Format/Datatype": "Half"}],
        },
        Layer("up", "Deconvolution", "fp16"),
    ),
    (
        {
            "Name": "input",
            "LayerType": "Reformat",
            "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}],
            "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}],
        },
        Layer("input", "Reformat", "fp16"),
    ),
    ({"Name": "?", "LayerType": "kgen"}, Layer("?", "kgen", "unknown")),
    ({}, Layer("", "unknown", "unknown")),
]


@pytest.mark.parametrize(("described", "layer"), ENGINE)
def test_layers_of_an_engine_have_the_type_they_compute_in(described, layer):
    assert layers_of_engine({"Layers": [described]}) == (layer,)


def test_an_inspection_without_details_has_no_layers():
    """As TensorRT gives it for a plan that was built without DETAILED: names only."""
    assert layers_of_engine({"Layers": ["conv1 + relu1", "fc"]}) == ()
    assert layers_of_engine({}) == ()


def test_the_table_counts_layers_per_class_and_precision():
    layers = [Layer("a", "Convolution", "int8")] * 3 + [Layer("b", "Convolution", "fp16")]
    layers.append(Layer("c", "Activation", "fp16"))
    assert precision_table(layers) == {
        "Activation": {"fp16": 1},
        "Convolution": {"fp16": 1, "int8": 3},
    }


def convolutions(**counts):
    return [
        Layer(f"{precision}_{index}", "Convolution", precision)
        for precision, count in counts.items()
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("layers", "precision", "is_typed"),
    [
        (convolutions(fp32=9), "fp32", True),
        (convolutions(fp16=9), "fp16", True),
        (convolutions(fp16=9, int8=3), "fp16", True),
        (convolutions(int8=5, fp16=5), "int8", True),
        (convolutions(fp16=3, fp32=1), "fp16", False),
        (convolutions(fp16=9, unknown=9), "fp16", True),
        ([*convolutions(fp16=1), Layer("x", "Activation", "fp32")], "fp16", True),
    ],
)
def test_what_was_asked_for_is_accepted(layers, precision, is_typed):
    check_precision(layers, precision, is_typed=is_typed)


@pytest.mark.parametrize(
    ("layers", "precision", "is_typed", "problem"),
    [
        (convolutions(fp16=9, fp32=1), "fp16", True, "fp16 was asked for.*not: fp32_0$"),
        (convolutions(fp32=9), "fp16", False, "fp32_0, fp32_1.* and 4 more"),
        (convolutions(fp16=5, fp32=2), "fp16", False, "fp32_0, fp32_1$"),
        (convolutions(int8=9, fp32=1), "int8", True, "int8 was asked for.*: fp32_0$"),
        (convolutions(int8=4, fp16=6), "int8", True, "int8 was asked for.*fp16_0"),
        ([Layer("fc", "MatrixMultiply", "fp16")], "int8", True, "int8 was asked for.*: fc$"),
        (convolutions(fp16=9, bf16=1), "fp16", True, "bf16_0"),
        ([Layer("x", "Activation", "fp16")], "fp16", True, "no layer with weights"),
        (convolutions(unknown=9), "int8", False, "no layer with weights"),
    ],
)
def test_silent_float32_is_an_error_that_names_the_layers(layers, precision, is_typed, problem):
    with pytest.raises(EngineBuildError, match=problem):
        check_precision(layers, precision, is_typed=is_typed)


def test_layers_that_the_model_keeps_in_float_are_not_missed():
    """``perception calibrate --keep-float`` may leave most of them."""
    check_precision(convolutions(int8=3, fp16=9), "int8", is_typed=True, quantized=4)
    with pytest.raises(EngineBuildError, match="int8 was asked for"):
        check_precision(convolutions(int8=1, fp16=9), "int8", is_typed=True, quantized=4)


def inspecting(answer):
    """Return a TensorRT whose engine describes itself with ``answer``; None cannot be loaded."""
    module = StandinVersion("10.3.0").module
    inspector = SimpleNamespace(get_engine_information=lambda _format: answer)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    module.Runtime = lambda _logger: SimpleNamespace(
        deserialize_cuda_engine=lambda _plan: None if answer is None else engine
    )
    return TensorRt(module, "tensorrt")


def test_the_inspection_of_a_plan_is_json():
    layers = [{"Name": "a", "LayerType": "CaskConvolution"}]
    trt = inspecting(json.dumps({"Layers": layers, "Bindings": ["image", "logits"]}))
    assert inspect_plan(trt, b"")["Layers"] == layers


@pytest.mark.parametrize(
    ("answer", "problem"), [(None, "cannot load the plan it built"), ("{", "else than JSON")]
)
def test_a_plan_that_cannot_be_inspected_is_an_error(answer, problem):
    with pytest.raises(EngineError, match=problem):
        inspect_plan(inspecting(answer), b"")
