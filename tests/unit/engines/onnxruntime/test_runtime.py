# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re

import numpy as np
import pytest
from onnx import TensorProto, helper

from perception_node.config.sections import ModelConfig
from perception_node.engines.onnxruntime import OnnxRuntimeEngine, default_threads
from perception_node.engines.selection import load_pipeline
from perception_node.errors import EngineError, ModelFormatError, ModelIntegrityError
from perception_node.model.bundle import INT8_ON_CPU, MODEL_FILES, load_bundle
from tests.builders import color_network, make_bundle, to_onnx
from tests.gate_builders import int8_bundle


def load(path, model=None):
    return OnnxRuntimeEngine(load_bundle(make_bundle(path / "bundle", model)), 1)


def network(nodes, inputs=None, outputs=None, **options):
    """A model with the right tensors around any nodes."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "test", inputs or [image], outputs or [logits], **options)
    return to_onnx(graph)


MEAN = helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (8, 4), (64, 4)]
)
def test_inference_leaves_half_of_the_cores_to_others(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert default_threads() == threads


def test_what_runs_is_described(tmp_path):
    engine = load(tmp_path)
    assert engine.description.startswith("ONNX Runtime 1.")
    assert engine.description.endswith("CPUExecutionProvider, float32, 1 thread(s)")


def test_zero_threads_means_the_default(color_bundle):
    engine = OnnxRuntimeEngine(load_bundle(color_bundle), 0)
    assert f"{default_threads()} thread(s)" in engine.description


@pytest.mark.parametrize("batch", ["N", None])
def test_a_dynamic_batch_is_one(tmp_path, batch):
    engine = load(tmp_path, color_network(batch=batch))
    assert engine.input.shape == (1, 3, 8, 8)
    engine.input[0, 1] = 1.0
    engine.infer()
    assert engine.output.tolist() == [[0.0, 12.0, 0.0]]


@pytest.mark.parametrize(
    ("model", "expected", "found"),
    [
        (
            color_network(batch=2),
            "its input must be image float32 [1, 3, 8, 8]",
            "found image float32 [2, 3, 8, 8]",
        ),
        (
            color_network(shape=(1, 4, 8, 8)),
            "its input must be image float32 [1, 3, 8, 8]",
            "[1, 4, 8, 8]",
        ),
        (
            color_network(shape=(1, 3, 16, 16)),
            "its input must be image float32 [1, 3, 8, 8]",
            "[1, 3, 16, 16]",
        ),
        (
            color_network(input_type=TensorProto.UINT8),
            "its input must be image float32 [1, 3, 8, 8]",
            "found image uint8 [1, 3, 8, 8]",
        ),
        (
            color_network(input_type=TensorProto.DOUBLE),
            "its input must be image float32 [1, 3, 8, 8]",
            "found image float64 [1, 3, 8, 8]",
        ),
        (
            color_network(classes=5),
            "its output must be logits float32 [1, 3]",
            "found logits float32 [1, 5]",
        ),
        (
            color_network(output="scores"),
            "its output must be logits float32 [1, 3]",
            "found scores float32 [1, 3]",
        ),
        (
            network(
                [MEAN, helper.make_node("Identity", ["logits"], ["more"])],
                outputs=[
                    helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3]),
                    helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 3]),
                ],
            ),
            "its output must be logits float32 [1, 3]",
            "found logits float32 [1, 3], more float32 [1, 3]",
        ),
        (
            network(
                [
                    helper.make_node("Add", ["image", "second"], ["sum"]),
                    helper.make_node("ReduceMean", ["sum"], ["logits"], axes=[2, 3], keepdims=0),
                ],
                inputs=[
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8])
                    for name in ("image", "second")
                ],
            ),
            "its input must be image float32 [1, 3, 8, 8]",
            "found image float32 [1, 3, 8, 8], second float32 [1, 3, 8, 8]",
        ),
        (
            network(
                [
                    helper.make_node(
                        "Constant",
                        [],
                        ["logits"],
                        value=helper.make_tensor("c", TensorProto.FLOAT, [1, 3], [1, 2, 3]),
                    )
                ],
                inputs=[helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 3, 8, 8])],
            ),
            "its input must be image float32 [1, 3, 8, 8]",
            "found other float32",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_both_shapes(tmp_path, model, expected, found):
    with pytest.raises(ModelFormatError) as caught:
        load(tmp_path, model)
    assert str(caught.value).startswith(f"{tmp_path / 'bundle/model.onnx'}: {expected}, ")
    assert found in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"\0" * 1000,
        b"not a model\n" * 100,
        color_network()[:-20],
        network([helper.make_node("NoSuchOperator", ["image"], ["logits"])]),
        network([helper.make_node("Custom", ["image"], ["logits"], domain="some.where")]),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, model, capfd):
    with pytest.raises(ModelFormatError) as caught:
        load(tmp_path, model)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'bundle/model.onnx'}: ")
    assert re.search("ONNX Runtime cannot load it: |no ONNX, or damaged", text)
    assert "\n" not in text
    assert capfd.readouterr().err == ""


def test_a_model_cannot_pull_in_another_file(tmp_path):
    """Weights in another file would escape the digests of the bundle."""
    weights = helper.make_tensor("bias", TensorProto.FLOAT, [3], bytes(12), raw=True)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    model = network(
        [
            helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("Add", ["means", "bias"], ["logits"]),
        ],
        initializer=[weights],
    )
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    with pytest.raises(ModelFormatError):
        load(tmp_path, model)


def test_a_model_that_changed_after_the_bundle_was_loaded_is_refused(tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "bundle"))
    (tmp_path / "bundle/model.onnx").write_bytes(color_network(gain=5.0))
    with pytest.raises(ModelIntegrityError):
        OnnxRuntimeEngine(bundle, 1)


def failing_network():
    """Loads, then looks up row 7 of 3."""
    return network(
        [
            helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["means"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "seven"], ["place"]),
            helper.make_node("Cast", ["place"], ["row"], to=TensorProto.INT64),
            helper.make_node("Gather", ["means", "row"], ["one"], axis=1),
            helper.make_node("Expand", ["one", "shape"], ["logits"]),
        ],
        initializer=[
            helper.make_tensor("seven", TensorProto.FLOAT, [], [7.0]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3]),
        ],
    )


def test_a_failure_while_running_is_an_engine_error_in_one_line(tmp_path, capfd):
    path = make_bundle(tmp_path / "failing", failing_network())
    with pytest.raises(EngineError, match="ONNX Runtime failed: ") as caught:
        load_pipeline(ModelConfig(model=str(path)))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_int8_is_another_file_of_the_bundle(tmp_path):
    bundle = int8_bundle(tmp_path / "colors")
    engine = OnnxRuntimeEngine(bundle, 1, INT8_ON_CPU)
    assert engine.description.endswith("CPUExecutionProvider, int8, 1 thread(s)")
    engine.input[0, 1] = 1.0
    engine.infer()
    assert engine.output[0] == pytest.approx([0.0, 12.0, 0.0], abs=1e-4)


def test_the_int8_model_of_tensorrt_is_emulated(tmp_path):
    engine = OnnxRuntimeEngine(int8_bundle(tmp_path / "colors"), 1, MODEL_FILES["int8"])
    assert "int8 emulated in float32" in engine.description
    engine.input[0, 2] = 0.4  # 102/255, which the quantiser of the input can say
    engine.infer()
    assert engine.output[0] == pytest.approx([0.0, 0.0, 4.8], abs=1e-5)


def test_a_model_that_the_bundle_lacks_or_that_is_none_is_named(tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "plain"))
    with pytest.raises(ModelFormatError, match=r"model\.int8\.cpu\.onnx: not listed"):
        OnnxRuntimeEngine(bundle, 1, INT8_ON_CPU)
    bundle = int8_bundle(tmp_path / "bad", model=b"garbage")
    with pytest.raises(ModelFormatError, match=r"model\.int8\.cpu\.onnx: it is no ONNX"):
        OnnxRuntimeEngine(bundle, 1, INT8_ON_CPU)
    bundle = int8_bundle(tmp_path / "small", model=color_network(shape=(1, 3, 4, 4)))
    with pytest.raises(ModelFormatError, match=r"model\.int8\.cpu\.onnx: its input must be"):
        OnnxRuntimeEngine(bundle, 1, INT8_ON_CPU)
