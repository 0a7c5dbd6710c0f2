# SPDX-License-Identifier: Apache-2.0
"""What we emit, NVIDIA's own parser reads and its strongly typed builder builds, with no GPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from perception_node.calibration.balancing import balance
from perception_node.calibration.quantization import prepare, quantize_for_tensorrt
from perception_node.calibration.ranges import measure
from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.importing.graph.int8_models import split_quantized
from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.inspection import (
    check_precision,
    has_int8_products,
    precision_table,
)
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT
from tests.calibration_builders import quantize
from tests.int8_builders import FOR_TENSORRT, pictures, quantized_network, small_transformer
from tests.tensorrt_builders import resnet18

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")

MODELS = {
    "efficientnet_lite0": lambda: load_bundle(ROOT / "models/efficientnet_lite0").read(),
    "resnet18": lambda: resnet18(side=64),
}
SIDES = {"efficientnet_lite0": 224, "resnet18": 64}
CONVOLUTIONS = {"efficientnet_lite0": 49, "resnet18": 20}
DEPTHWISE = {"efficientnet_lite0": 16, "resnet18": 0}  # they stay float in an int8 model
MAGIC = b"vtrt"


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def models(name):
    """The ONNX models that a strongly typed TensorRT gets for each precision."""
    model = MODELS[name]()
    random = np.random.default_rng(0)
    shape = (1, 3, SIDES[name], SIDES[name])
    batches = [random.normal(0.0, 1.0, shape).astype(np.float32) for _ in range(3)]
    return {
        "fp32": model,
        "fp16": to_half_precision(model),
        "int8": to_half_precision(quantize(model, batches)),
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_it_is_parsed_and_built_in_the_precision_asked_for(models, name, precision):
    trt = load_tensorrt("tensorrt-rtx")
    built = build_plan(trt, models[precision], precision, BuildOptions())
    assert built.plan.startswith(MAGIC)
    assert built.is_strongly_typed
    expected = {precision: CONVOLUTIONS[name]}
    if precision == "int8" and DEPTHWISE[name]:
        expected = {"int8": CONVOLUTIONS[name] - DEPTHWISE[name], "fp16": DEPTHWISE[name]}
    assert precision_table(built.layers)["Convolution"] == expected
    check_precision(built.layers, precision, is_typed=True)


def test_lower_precision_makes_a_smaller_plan(models):
    trt = load_tensorrt("tensorrt-rtx")
    sizes = [
        len(build_plan(trt, models[precision], precision, BuildOptions()).plan)
        for precision in ("fp16", "fp32")
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_quantised_model_is_not_float32_around_its_int8_parts(models):
    trt = load_tensorrt("tensorrt-rtx")
    layers = build_plan(trt, models["int8"], "int8", BuildOptions()).layers
    others = {layer.precision for layer in layers if layer.kind in {"Activation", "Elementwise"}}
    assert others == {"fp16"}


def test_the_matrix_products_of_a_transformer_are_int8():
    prepared = balance(prepare(small_transformer(outlier=50.0)), pictures())
    model = quantize_for_tensorrt(prepared, measure(prepared, pictures()))
    built = build_plan(
        load_tensorrt("tensorrt-rtx"), to_half_precision(model), "int8", BuildOptions()
    )
    table = precision_table(built.layers)
    assert table["MatrixMultiply"] == {"fp16": 5, "int8": 12}
    assert table["Convolution"] == {"int8": 1}
    assert has_int8_products(built.layers)
    check_precision(built.layers, "int8", is_typed=True, quantized=13)


@pytest.mark.parametrize("case", sorted(FOR_TENSORRT))
def test_what_came_quantised_and_is_symmetric_is_read(case, tmp_path):
    came = onnx.load_model_from_string(quantized_network(case, tmp_path))
    _, blobs = split_quantized(tmp_path, came, None)
    built = build_plan(
        load_tensorrt("tensorrt-rtx"), to_half_precision(blobs["tensorrt"]), "int8", BuildOptions()
    )
    table = precision_table(built.layers)
    assert (table["Convolution"], table["MatrixMultiply"]) == ({"int8": 3}, {"int8": 1})
