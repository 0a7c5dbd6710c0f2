# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import numpy as np
import pytest

from perception_node.config.sections import ModelConfig
from perception_node.engines.loading import Phases
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.selection import load_pipeline
from perception_node.errors import (
    ConfigError,
    EngineError,
    EnvironmentLacks,
    ModelFormatError,
    PerceptionError,
    PlanMismatch,
    UngatedModel,
)
from perception_node.vision.frame import Frame
from tests.builders import GREEN, RED, make_bundle, solid
from tests.gate_builders import gate, int8_bundle

LOAD = "perception_node.engines.tensorrt.loading.load_engine"


@pytest.fixture
def gpu(monkeypatch):
    """Put a real engine into the place of TensorRT and return what it was asked for."""
    asked = []

    def load(order):
        asked.append(order)
        engine = OnnxRuntimeEngine(order.bundle, 1)
        engine.description = "TensorRT"
        return engine

    monkeypatch.setattr(LOAD, load)
    return asked


def refuse(monkeypatch, error):
    def load(_order):
        raise error

    monkeypatch.setattr(LOAD, load)


def config(bundle, **parameters):
    return ModelConfig(model=str(bundle), **parameters)


@pytest.mark.parametrize("engine", ["auto", "tensorrt"])
def test_tensorrt_runs_where_it_can_and_onnx_runtime_stands_by(color_bundle, gpu, engine):
    with load_pipeline(config(color_bundle, engine=engine)) as pipeline:
        assert pipeline.description == "TensorRT"
        assert engine in pipeline.reason
        assert len(pipeline.native_thread_ids) == 2, "the standby is warm"
    (order,) = gpu
    assert order.precision == "fp16"


def test_what_tensorrt_needs_to_know_is_passed_on(color_bundle, gpu):
    wanted = {"precision": "int8", "plan_store": "~/plans", "build_missing_plan": True}
    asked, progress = config(color_bundle, **wanted, allow_ungated=True), Phases()
    load_pipeline(asked, progress).close()
    (order,) = gpu
    assert (order.precision, order.config, order.progress) == ("int8", asked, progress)


def test_what_stands_by_for_tensorrt_in_int8_is_float32(tmp_path, gpu):
    bundle = int8_bundle(tmp_path / "colors").path
    with load_pipeline(config(bundle, precision="int8")) as pipeline:
        assert pipeline.description == "TensorRT"
        assert "float32" in pipeline._engines[1].description
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

    monkeypatch.setattr("perception_node.engines.onnxruntime.loading.OnnxRuntimeEngine", Noticing)
    bundle = gate(int8_bundle(tmp_path / "colors"), tmp_path)
    refuse(monkeypatch, UngatedModel(bundle.path, "too inaccurate"))
    with pytest.raises(UngatedModel, match="too inaccurate"):
        load_pipeline(config(bundle.path, engine=engine, precision="int8"))
    assert closed == [True]


def test_onnxruntime_does_not_even_look_for_tensorrt(color_bundle, gpu):
    with load_pipeline(config(color_bundle, engine="onnxruntime")) as pipeline:
        assert "ONNX Runtime" in pipeline.description
        assert pipeline.reason == "engine is onnxruntime"
        assert len(pipeline.native_thread_ids) == 1, "what replaces it is made if it is needed"
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
    monkeypatch.setattr("perception_node.engines.pipeline.WARM_UP_RUNS", 1)
    closed = []

    class Dud(OnnxRuntimeEngine):
        def infer(self):
            raise EngineError("no answer")

        def close(self):
            closed.append(True)
            super().close()

    monkeypatch.setattr(LOAD, lambda order: Dud(order.bundle, 1))
    with load_pipeline(config(color_bundle)) as pipeline:
        assert "no answer" in pipeline.reason
    assert closed == [True]


def test_a_model_that_cannot_be_used_is_not_an_engines_fault(tmp_path, gpu):
    bundle = make_bundle(tmp_path / "garbage", b"garbage")
    with pytest.raises(ModelFormatError):
        load_pipeline(config(bundle))
    assert gpu == []


# What happens to an engine that was chosen


class Faulty(OnnxRuntimeEngine):
    """A real engine with a fault to come; remembers all that were made, and of which model."""

    made: list[Faulty]

    def __init__(self, bundle, threads=0, model="model.onnx"):
        super().__init__(bundle, threads, model)
        self.model = model
        self.fault = lambda: None
        self.made.append(self)

    def infer(self):
        super().infer()
        self.fault()


@pytest.fixture
def made(monkeypatch):
    """Return the ONNX Runtime engines that are made from here on."""
    monkeypatch.setattr("perception_node.engines.onnxruntime.loading.OnnxRuntimeEngine", Faulty)
    monkeypatch.setattr(Faulty, "made", [], raising=False)
    return Faulty.made


@pytest.fixture
def _no_gpu(monkeypatch):
    refuse(monkeypatch, EnvironmentLacks("no NVIDIA GPU here"))


@pytest.fixture
def hang():
    """Return a fault that lasts until the end of the test."""
    end = threading.Event()
    yield end.wait
    end.set()
    for thread in threading.enumerate():
        if thread.name == "perception-engine":
            thread.join(20)
            assert not thread.is_alive()


def fail():
    raise EngineError("execute_async_v3 returned False")


def label(pipeline, color):
    frame = Frame.from_bgr(np.ascontiguousarray(solid(color)[..., ::-1]))
    return pipeline.run(frame, top_k=1, threshold=0.0).hypotheses[0].label


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_onnx_runtime_is_replaced_by_its_like_if_it_hangs(tmp_path, made, hang, engine, precision):
    bundle = gate(int8_bundle(tmp_path / "colors"), tmp_path)
    parameters = {"engine": engine, "precision": precision, "engine_timeout_ms": 200}
    with load_pipeline(config(bundle.path, **parameters), standby=True) as pipeline:
        assert label(pipeline, RED) == "red"
        (chosen, standby), number = made[-2:], len(made)
        description, reason = pipeline.description, pipeline.reason
        chosen.fault = hang
        assert label(pipeline, GREEN) == "green"
        assert len(made) == number
        assert standby.model == chosen.model
        assert (pipeline.description, pipeline.reason) == (description, reason)
        assert "did not answer within 0.2 s" in str(pipeline.lost)


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_an_error_of_onnx_runtime_costs_the_frame_alone(color_bundle, made, engine):
    with load_pipeline(config(color_bundle, engine=engine)) as pipeline:
        made[0].fault = fail
        with pytest.raises(EngineError, match="returned False"):
            label(pipeline, RED)
        made[0].fault = lambda: None
        assert label(pipeline, GREEN) == "green"
        assert pipeline.lost is None
    assert len(made) == 1


def test_an_error_of_tensorrt_costs_the_engine_one_of_its_standby_the_frame(
    color_bundle, monkeypatch, made
):
    monkeypatch.setattr(LOAD, lambda order: Faulty(order.bundle))
    with load_pipeline(config(color_bundle)) as pipeline:
        standby, tensorrt = made
        tensorrt.fault = fail
        assert label(pipeline, RED) == "red"
        assert "returned False" in str(pipeline.lost)
        standby.fault = fail
        with pytest.raises(EngineError, match="returned False"):
            label(pipeline, RED)
        standby.fault = lambda: None
        assert label(pipeline, GREEN) == "green"
        assert not pipeline.is_exhausted
    assert len(made) == 2


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_an_engine_whose_first_frame_would_count_as_a_hang_is_refused(engine):
    """No CPU runs the sample's network in a millisecond."""
    with pytest.raises(ConfigError) as refusal:
        load_pipeline(ModelConfig(engine=engine, engine_timeout_ms=1))
    message = str(refusal.value)
    assert "a frame takes " in message
    assert " ms on ONNX Runtime " in message
    assert "engine_timeout_ms is 1; raise it" in message
    assert "\n" not in message


def test_a_tensorrt_engine_that_is_too_slow_is_refused_as_well(color_bundle, made, monkeypatch):
    monkeypatch.setattr("perception_node.engines.pipeline.WARM_UP_RUNS", 1)

    class Slow(OnnxRuntimeEngine):
        description = "TensorRT"

        def infer(self):
            super().infer()
            threading.Event().wait(1.0)

    monkeypatch.setattr(LOAD, lambda order: Slow(order.bundle, 1))
    with pytest.raises(ConfigError, match=r"a frame takes \d{4}\.\d ms on .*timeout_ms is 900;"):
        load_pipeline(config(color_bundle, engine_timeout_ms=900))
    assert made[0]._session is None, "the standby was freed"
