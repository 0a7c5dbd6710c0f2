# SPDX-License-Identifier: Apache-2.0
"""Engines that break the contract, each in its own way: never a wrong answer comes of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.fallback import FallbackPipeline
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.tensorrt.graph_replay import RECORD_AFTER
from perception_node.errors import EngineError, EngineLost
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import BLUE, GREEN, RED, solid
from tests.cuda_host import host_kernel
from tests.standin_cuda import StandinCuda
from tests.standin_tensorrt import standin_engine, standin_tensorrt

pytestmark = pytest.mark.skipif(
    host_kernel.compiler() is None, reason="no C++ compiler for the CUDA kernel on the host"
)
HANG_S = 0.2
PATIENCE_S = 20.0
OTHER_HEIGHT = 60  # a recorded graph does not fit, so every part of the engine runs again


class Failing(OnnxRuntimeEngine):
    """Works until ``fail`` is called; from then on every run goes wrong."""

    def __init__(self, bundle, fault):
        super().__init__(bundle, 1)
        self._fault = fault
        self._is_failing = False

    def fail(self):
        self._is_failing = True

    def infer(self):
        if self._is_failing:
            self._fault(self)
        else:
            super().infer()


def failing(fault):
    return lambda bundle: Failing(bundle, fault)


def raising(error):
    def fault(_):
        raise error

    return fault


def shaped(*shape):
    def fault(engine):
        engine.output = np.zeros(shape, np.float32)

    return fault


def failing_tensorrt(answer=None, **options):
    """Return what makes the TensorRT runtime; ``answer`` is called by runs that shall fail."""

    def make(bundle):
        failing = []
        cuda = StandinCuda()
        trt = standin_tensorrt(before=lambda: answer(cuda) if failing and answer else None)
        engine = standin_engine(bundle, cuda, trt, **options)
        engine.fail = lambda: failing.append(True)
        return engine

    return make


def failing_cuda(how):
    """Return what makes the TensorRT runtime, whose next call of CUDA goes wrong."""

    def make(bundle):
        cuda = StandinCuda(how=how)
        engine = standin_engine(bundle, cuda)
        engine.fail = cuda.fail_next
        return engine

    return make


def lose_device(cuda):
    cuda.break_context()
    return False


ENGINES = {
    "raises": failing(raising(EngineError("out of memory"))),
    "loses its device": failing(raising(EngineLost("an illegal address"))),
    "writes nothing": failing(lambda _: None),
    "writes NaN": failing(lambda engine: engine.output.fill(np.nan)),
    "writes infinity": failing(lambda engine: engine.output.fill(np.inf)),
    "gives too many classes": failing(shaped(1, 5)),
    "gives no batch": failing(shaped(3)),
    "gives two images": failing(shaped(2, 3)),
    "TensorRT returns False": failing_tensorrt(lambda _: False),
    "TensorRT runs nothing, in debug": failing_tensorrt(lambda _: True, debug=True),
    "TensorRT breaks the context": failing_tensorrt(lose_device),
    "CUDA fails once": failing_cuda("error"),
    "CUDA fails for good": failing_cuda("sticky"),
}


@pytest.fixture(params=ENGINES)
def make_engine(request):
    return ENGINES[request.param]


@pytest.fixture(scope="module")
def bundle(color_bundle):
    return load_bundle(color_bundle)


def classify(pipeline, color, height=48):
    frame = Frame.from_bgr(np.ascontiguousarray(solid(color, height)[..., ::-1]))
    return pipeline.run(frame, top_k=1, threshold=0.0).hypotheses[0].label


@pytest.mark.parametrize("runs_before", [1, RECORD_AFTER + 2], ids=["early", "later"])
def test_a_pipeline_says_that_it_has_no_answer(make_engine, bundle, runs_before):
    pipeline = Pipeline(bundle, make_engine(bundle))
    assert {classify(pipeline, RED) for _ in range(runs_before)} == {"red"}
    pipeline.engine.fail()
    with pytest.raises(EngineError):
        classify(pipeline, GREEN, OTHER_HEIGHT)
    pipeline.close()


@pytest.mark.parametrize("runs_before", [1, RECORD_AFTER + 2], ids=["early", "later"])
def test_with_a_standby_every_frame_has_its_right_answer(make_engine, bundle, runs_before):
    made = []

    def make_primary():
        made.append(Pipeline(bundle, make_engine(bundle)))
        return made[0]

    with with_standby(bundle, make_primary, PATIENCE_S) as pipeline:
        assert {classify(pipeline, RED) for _ in range(runs_before)} == {"red"}
        made[0].engine.fail()
        assert classify(pipeline, GREEN, OTHER_HEIGHT) == "green"
        assert classify(pipeline, BLUE, OTHER_HEIGHT) == "blue"
        assert pipeline.lost is not None
        assert "ONNX Runtime" in pipeline.description


def test_with_a_standby_a_gpu_that_hangs_costs_one_timeout(bundle):
    release = threading.Event()
    made = []

    def make_primary():
        engine = failing_cuda(lambda: release.wait(PATIENCE_S))(bundle)
        made.append(engine)
        return Pipeline(bundle, engine)

    with with_standby(bundle, make_primary, HANG_S) as pipeline:
        assert classify(pipeline, RED) == "red"
        made[0].fail()
        assert classify(pipeline, GREEN) == "green"
        assert isinstance(pipeline.lost, EngineLost)
        assert classify(pipeline, BLUE) == "blue"
        release.set()


def with_standby(bundle, make_primary, timeout_s):
    def make_standby():
        return Pipeline(bundle, OnnxRuntimeEngine(bundle, 1))

    primary = EngineThread(make_primary, timeout_s)
    standby = EngineThread(make_standby, timeout_s, survives_errors=True)
    for engine in (primary, standby):
        engine.start()
    return FallbackPipeline(bundle, (primary, standby))
