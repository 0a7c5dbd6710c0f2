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
)
from perception_node.fallback import FallbackPipeline
from perception_node.pipeline import Pipeline
from perception_node.selection import load_pipeline
from tests.builders import make_bundle

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
    assert gpu == [("fp16", {"store": "", "build_missing": False, "report": None})]


def test_what_tensorrt_needs_to_know_is_passed_on(color_bundle, gpu):
    wanted = {"precision": "int8", "plan_store": "~/plans", "build_missing_plan": True}
    load_pipeline(config(color_bundle, **wanted), print).close()
    assert gpu == [("int8", {"store": "~/plans", "build_missing": True, "report": print})]


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
