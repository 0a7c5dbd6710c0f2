# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

from perception_node.bundle import load_bundle
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineError, EngineLost, FrameTooLarge
from perception_node.fallback import EngineThread, FallbackPipeline
from perception_node.frame import Frame
from perception_node.pipeline import Pipeline
from tests.builders import BLUE, GREEN, RED, solid

HANG_S = 0.05
PATIENCE_S = 10.0


class Primary(OnnxRuntimeEngine):
    """A real engine that can be told to go wrong, and says which threads it met."""

    def __init__(self, bundle):
        super().__init__(bundle, 1)
        self.description = "the primary"
        self.fault = lambda: None
        self.runs = 0
        self.is_closed = threading.Event()
        self.threads = {threading.current_thread()}

    def infer(self):
        self.threads.add(threading.current_thread())
        self.runs += 1
        super().infer()
        self.fault()

    def close(self):
        self.threads.add(threading.current_thread())
        self.is_closed.set()
        super().close()


class Rig:
    """A fallback pipeline with both of its engines at hand."""

    def __init__(self, bundle, timeout_s=PATIENCE_S):
        self.bundle = bundle
        self.standby = OnnxRuntimeEngine(bundle, 1)
        standby = Pipeline(bundle, self.standby)
        self.pipeline = FallbackPipeline(self._make, standby, timeout_s=timeout_s, reason="a test")

    def _make(self):
        self.primary = Primary(self.bundle)
        return Pipeline(self.bundle, self.primary)

    def label(self, color):
        frame = Frame.from_bgr(np.ascontiguousarray(solid(color)[..., ::-1]), stamp_ns=5)
        prediction = self.pipeline.run(frame, top_k=1, threshold=0.0)
        assert prediction.stamp_ns == 5
        return prediction.hypotheses[0].label


@pytest.fixture
def rig(color_bundle):
    rig = Rig(load_bundle(color_bundle))
    yield rig
    rig.pipeline.close()


def raising(error):
    def fault():
        raise error

    return fault


def test_the_primary_works_as_long_as_it_can(rig):
    assert [rig.label(color) for color in (RED, GREEN, BLUE)] == ["red", "green", "blue"]
    assert rig.primary.runs == 3
    assert rig.pipeline.lost is None
    assert rig.pipeline.description == "the primary"
    assert (rig.pipeline.reason, rig.pipeline.bundle) == ("a test", rig.bundle)


def test_one_thread_makes_runs_and_closes_the_primary(rig):
    rig.label(RED)
    rig.pipeline.close()
    assert rig.primary.is_closed.is_set()
    (owner,) = rig.primary.threads
    assert owner is not threading.current_thread()
    owner.join(PATIENCE_S)
    assert not owner.is_alive()


FAULTS = {
    "raises": lambda _: raising(EngineError("out of memory"))(),
    "raises a foreign error": lambda _: raising(ZeroDivisionError("a bug"))(),
    "loses its device": lambda _: raising(EngineLost("illegal address"))(),
    "NaN": lambda engine: engine.output.fill(np.nan),
    "infinite": lambda engine: engine.output.fill(np.inf),
    "another shape": lambda engine: setattr(engine, "output", np.zeros((1, 2), np.float32)),
    "no output": lambda engine: setattr(engine, "output", None),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_standby_answers_for_the_very_frame_that_the_primary_failed_on(rig, kind):
    assert rig.label(RED) == "red"
    rig.primary.fault = lambda: FAULTS[kind](rig.primary)
    assert rig.label(GREEN) == "green"
    assert rig.pipeline.lost is not None
    assert "ONNX Runtime" in rig.pipeline.description


def test_a_lost_primary_is_never_tried_again(rig):
    rig.primary.fault = raising(EngineError("once"))
    rig.label(RED)
    rig.primary.fault = lambda: None
    assert [rig.label(color) for color in (RED, GREEN, BLUE)] == ["red", "green", "blue"]
    assert rig.primary.runs == 1


@pytest.mark.parametrize("error", [EngineError("NaN"), EngineLost("illegal address")])
def test_a_lost_primary_is_freed_by_its_own_thread(rig, error):
    rig.primary.fault = raising(error)
    rig.label(RED)
    (owner,) = rig.primary.threads
    owner.join(PATIENCE_S)
    assert not owner.is_alive()
    assert rig.primary.is_closed.is_set()
    assert rig.primary.threads == {owner}


def test_a_primary_that_writes_no_output_is_noticed(rig):
    rig.label(RED)
    rig.primary.infer = lambda: None
    assert rig.label(GREEN) == "green"
    assert "NaN" in str(rig.pipeline.lost)


def test_a_primary_that_hangs_is_given_up_and_its_late_answer_is_not_used(color_bundle):
    rig = Rig(load_bundle(color_bundle), timeout_s=HANG_S)
    release = threading.Event()
    rig.primary.fault = lambda: release.wait(PATIENCE_S)
    assert rig.label(GREEN) == "green"
    assert isinstance(rig.pipeline.lost, EngineLost)
    assert "did not answer within 0.05 s" in str(rig.pipeline.lost)
    release.set()
    (owner,) = rig.primary.threads
    owner.join(PATIENCE_S)
    assert not owner.is_alive()
    assert rig.primary.is_closed.is_set()
    assert rig.label(BLUE) == "blue"
    rig.pipeline.close()


def test_closing_does_not_wait_for_a_primary_that_hangs_in_close(rig, monkeypatch):
    monkeypatch.setattr("perception_node.fallback.CLOSE_TIMEOUT_S", HANG_S)
    release = threading.Event()
    rig.primary.close = lambda: release.wait(PATIENCE_S)
    rig.pipeline.close()
    assert isinstance(rig.pipeline.lost, EngineLost)
    release.set()


def test_a_primary_that_cannot_be_freed_does_not_keep_the_rest(rig):
    rig.primary.close = raising(ZeroDivisionError("cuMemFree failed"))
    rig.pipeline.close()
    assert isinstance(rig.pipeline.lost, ZeroDivisionError)
    assert rig.standby._session is None
    (owner,) = rig.primary.threads
    owner.join(PATIENCE_S)
    assert not owner.is_alive()


def test_a_frame_that_cannot_be_read_is_not_the_engines_fault(rig):
    rig.primary.fault = raising(FrameTooLarge(9, 9, 1))
    with pytest.raises(FrameTooLarge):
        rig.label(RED)
    assert rig.pipeline.lost is None


def test_where_the_standby_fails_too_the_frame_is_lost(rig):
    rig.primary.fault = raising(EngineError("first"))
    rig.standby.infer = raising(EngineError("second"))
    with pytest.raises(EngineError, match="second"):
        rig.label(RED)


def test_a_primary_that_cannot_be_made_leaves_the_standby_to_the_caller(color_bundle):
    bundle = load_bundle(color_bundle)
    standby = Pipeline(bundle, OnnxRuntimeEngine(bundle, 1))
    before = threading.active_count()
    with pytest.raises(EngineError, match="no plan"):
        FallbackPipeline(raising(EngineError("no plan")), standby, timeout_s=1.0)
    frame = Frame.from_bgr(np.zeros((4, 4, 3), np.uint8))
    standby.run(frame, top_k=1, threshold=0.0)
    for thread in threading.enumerate():
        if thread.name == "perception-engine":
            thread.join(PATIENCE_S)
    assert threading.active_count() == before


def test_the_hypotheses_can_be_drawn_whichever_engine_runs(rig):
    frame = Frame.from_bgr(np.zeros((60, 80, 3), np.uint8))
    prediction = rig.pipeline.run(frame, top_k=1, threshold=0.0)
    assert rig.pipeline.draw(frame, prediction).shape == (60, 80, 3)
    assert rig.pipeline.smallest_side == 16


def test_the_answer_to_an_interrupted_call_is_not_given_to_the_next():
    """Ctrl-C while ``perception replay`` waits for a frame: what follows is the call of close."""
    thread = EngineThread()
    main, release = threading.get_ident(), threading.Event()

    def frame():
        signal.pthread_kill(main, signal.SIGINT)
        release.wait(PATIENCE_S)
        return "frame"

    with pytest.raises(KeyboardInterrupt):
        thread.call(frame)
    release.set()
    assert thread.call(lambda: "closed") == "closed"
    thread.abandon()


def test_a_given_up_thread_takes_no_more_jobs():
    thread = EngineThread()
    release = threading.Event()
    with pytest.raises(EngineLost):
        thread.call(lambda: release.wait(PATIENCE_S), HANG_S)
    with pytest.raises(EngineLost, match="given up"):
        thread.call(lambda: 1)
    last = threading.Event()
    thread.abandon(last.set)
    release.set()
    assert last.wait(PATIENCE_S)
