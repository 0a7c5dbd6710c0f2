# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.config import NodeConfig
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import (
    EngineError,
    EnvironmentLacks,
    ModelFormatError,
    PerceptionError,
    PlanMismatch,
    UngatedModel,
)
from perception_node.fallback import FallbackPipeline
from perception_node.pipeline import Pipeline
from perception_node.selection import load_pipeline
from tests.builders import make_bundle
from tests.gate_builders import gate, int8_bundle

LOAD = "perception_node.engines.tensorrt.loading.load_engine"


@pytest.fixture
def gpu(monkeypatch):
    """Put a real engine into the place of TensorRT and return what it was asked for."""
    asked = []

    def load(bundle, precision, **options):
        asked.append((precision, options))
        engine = OnnxRuntimeEngine(bundle, 1)
        engine.description = "TensorRT"
        return engine

    monkeypatch.setattr(LOAD, load)
    return asked


def refuse(monkeypatch, error):
    def load(*_arguments, **_options):
        raise error

    monkeypatch.setattr(LOAD, load)


def config(bundle, **parameters):
    return NodeConfig(model=str(bundle), **parameters)


@pytest.mark.parametrize("engine", ["auto", "tensorrt"])
def test_tensorrt_runs_where_it_can_and_onnx_runtime_stands_by(color_bundle, gpu, engine):
    with load_pipeline(config(color_bundle, engine=engine)) as pipeline:
        assert isinstance(pipeline, FallbackPipeline)
        assert pipeline.description == "TensorRT"
        assert engine in pipeline.reason
    options = {"store": "", "build_missing": False, "report": None, "allow_ungated": False}
    assert gpu == [("fp16", options)]


def test_what_tensorrt_needs_to_know_is_passed_on(color_bundle, gpu):
    wanted = {"precision": "int8", "plan_store": "~/plans", "build_missing_plan": True}
    load_pipeline(config(color_bundle, **wanted, allow_ungated=True), print).close()
    options = {"store": "~/plans", "build_missing": True, "report": print, "allow_ungated": True}
    assert gpu == [("int8", options)]


def test_what_stands_by_for_tensorrt_in_int8_is_float32(tmp_path, gpu):
    bundle = int8_bundle(tmp_path / "colors").path
    with load_pipeline(config(bundle, precision="int8")) as pipeline:
        assert pipeline.description == "TensorRT"
        assert "float32" in pipeline._standby.description
    assert len(gpu) == 1


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_int8_runs_on_the_cpu_once_it_has_passed(tmp_path, monkeypatch, engine):
    refuse(monkeypatch, EnvironmentLacks("no NVIDIA GPU here"))
    bundle = gate(int8_bundle(tmp_path / "colors"), tmp_path)
    with load_pipeline(config(bundle.path, engine=engine, precision="int8")) as pipeline:
        assert "CPUExecutionProvider, int8," in pipeline.description
        assert engine in pipeline.reason


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_int8_on_the_cpu_is_refused_until_it_has_passed(tmp_path, monkeypatch, engine):
    refuse(monkeypatch, EnvironmentLacks("no NVIDIA GPU here"))
    bundle = int8_bundle(tmp_path / "colors")
    parameters = {"engine": engine, "precision": "int8"}
    with pytest.raises(UngatedModel, match=r"model\.int8\.cpu\.onnx: its accuracy was never"):
        load_pipeline(config(bundle.path, **parameters))
    with load_pipeline(config(bundle.path, **parameters, allow_ungated=True)) as pipeline:
        assert ", int8," in pipeline.description


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_without_an_int8_model_for_the_cpu_it_says_how_to_make_one(
    color_bundle, monkeypatch, engine
):
    refuse(monkeypatch, EnvironmentLacks("no NVIDIA GPU here"))
    with pytest.raises(ModelFormatError, match=r"cpu\.onnx: missing; run: perception calibrate"):
        load_pipeline(config(color_bundle, engine=engine, precision="int8"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_precisions_are_float32_on_the_cpu_and_need_no_gate(tmp_path, precision):
    bundle = int8_bundle(tmp_path / "colors").path
    with load_pipeline(config(bundle, engine="onnxruntime", precision=precision)) as pipeline:
        assert ", float32," in pipeline.description


@pytest.mark.parametrize("engine", ["auto", "tensorrt"])
def test_a_model_that_tensorrt_must_not_run_is_not_run_elsewhere_instead(
    tmp_path, monkeypatch, engine
):
    closed = []

    class Noticing(OnnxRuntimeEngine):
        def close(self):
            closed.append(True)
            super().close()

    monkeypatch.setattr("perception_node.selection.OnnxRuntimeEngine", Noticing)
    bundle = gate(int8_bundle(tmp_path / "colors"), tmp_path)
    refuse(monkeypatch, UngatedModel(bundle.path, "too inaccurate"))
    with pytest.raises(UngatedModel, match="too inaccurate"):
        load_pipeline(config(bundle.path, engine=engine, precision="int8"))
    assert closed == [True]


def test_onnxruntime_does_not_even_look_for_tensorrt(color_bundle, gpu):
    with load_pipeline(config(color_bundle, engine="onnxruntime")) as pipeline:
        assert isinstance(pipeline, Pipeline)
        assert "ONNX Runtime" in pipeline.description
        assert pipeline.reason == "engine is onnxruntime"
    assert gpu == []


@pytest.mark.parametrize(
    "error",
    [EnvironmentLacks("no NVIDIA GPU here"), EngineError("the plan fails on a black image")],
)
def test_auto_falls_back_and_says_why_tensorrt_does_not(color_bundle, monkeypatch, error):
    refuse(monkeypatch, error)
    with load_pipeline(config(color_bundle)) as pipeline:
        assert pipeline.reason == f"engine is auto, no TensorRT: {error}"
        assert "ONNX Runtime" in pipeline.description
    with pytest.raises(PerceptionError, match=str(error)):
        load_pipeline(config(color_bundle, engine="tensorrt"))


def test_auto_falls_back_where_the_plan_does_not_fit(color_bundle, monkeypatch, tmp_path):
    refuse(monkeypatch, PlanMismatch(tmp_path, "gpu: built for Orin, here Thor"))
    with load_pipeline(config(color_bundle)) as pipeline:
        assert "gpu: built for Orin, here Thor" in pipeline.reason


def test_a_tensorrt_engine_that_fails_when_warmed_up_is_not_chosen(color_bundle, gpu, monkeypatch):
    del gpu
    monkeypatch.setattr("perception_node.pipeline.WARM_UP_RUNS", 1)
    closed = []

    class Dud(OnnxRuntimeEngine):
        def infer(self):
            raise EngineError("no answer")

        def close(self):
            closed.append(True)
            super().close()

    monkeypatch.setattr(LOAD, lambda bundle, *_, **__: Dud(bundle, 1))
    with load_pipeline(config(color_bundle)) as pipeline:
        assert "no answer" in pipeline.reason
    assert closed == [True]


def test_a_model_that_cannot_be_used_is_not_an_engines_fault(tmp_path, gpu):
    bundle = make_bundle(tmp_path / "garbage", b"garbage")
    with pytest.raises(ModelFormatError):
        load_pipeline(config(bundle))
    assert gpu == []
