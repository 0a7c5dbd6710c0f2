# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine fails while the node runs: ONNX Runtime answers for the same frame."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from vision_msgs.msg import VisionInfo

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.tensorrt.progress import BuildProgress
from perception_node.errors import EngineError, EngineLost, PlanMissing
from perception_node.ros.qos import LATCHED
from tests.ros.harness import DEADLINE_S, NODE, Stream, local_node, make_image, wait_for
from tests.standin_cuda import StandinCuda
from tests.standin_tensorrt import standin_engine

pytestmark = pytest.mark.ros
LOAD = "perception_node.engines.tensorrt.loading.load_engine"
OK, WARN = 0, 1
HANG_LIMIT_MS = 1000


class Breakable(OnnxRuntimeEngine):
    """Stands where TensorRT would: a real engine, until it is told to break."""

    def __init__(self, order):
        super().__init__(order.bundle, 1)
        self.description = "TensorRT 10.3.0, Orin (8.7), fp16"
        self.fault = lambda: None

    def infer(self):
        super().infer()
        self.fault()


class Robot:
    def __init__(self, node, peer, engines):
        self.node, self.peer, self.engines = node, peer, engines
        self.infos = peer.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
        self.diagnostics = peer.watch()
        assert peer.change("configure")
        assert peer.change("activate")
        self.stream = Stream(peer)


@pytest.fixture
def robot(domain, peer, color_model, monkeypatch, capfd):
    del capfd  # captures what configuring logs, too
    engines = []

    def load(order):
        engines.append(Breakable(order))
        return engines[-1]

    monkeypatch.setattr(LOAD, load)
    parameters = {"diagnostics_period_s": 0.1, "engine_timeout_ms": HANG_LIMIT_MS}
    with local_node(domain, model=str(color_model), **parameters) as node:
        yield Robot(node, peer, engines)


def test_the_engine_that_runs_is_named_everywhere(robot, capfd):
    robot.stream.classify(make_image("red", 1))
    status = robot.diagnostics.wait_for_level("engine", OK)
    assert status.message == "TensorRT 10.3.0, Orin (8.7), fp16"
    assert "engine is auto" in robot.diagnostics.value("chosen because")
    wait_for(lambda: robot.infos, lambda: "vision_info")
    assert robot.infos[0].method.startswith("colors on TensorRT 10.3.0, Orin (8.7), fp16 (")
    assert "runs on TensorRT 10.3.0" in capfd.readouterr().err


def test_a_failing_engine_is_replaced_within_the_frame(robot, capfd):
    robot.stream.classify(make_image("red", 1))
    engine = robot.engines[0]

    def lose():
        raise EngineLost("CUDA error 700: an illegal memory access was encountered")

    engine.fault = lose
    for stamp_ns, (color, index) in enumerate((("green", "1"), ("blue", "2")), start=2):
        result = robot.stream.classify_once(make_image(color, stamp_ns))
        assert result.results[0].class_id == index
    status = robot.diagnostics.wait_for_level("engine", WARN)
    assert status.message.startswith("degraded: ONNX Runtime")
    assert "illegal memory access" in status.message
    assert robot.node.counters["/image"].snapshot().failed == 0
    assert robot.peer.state() == "active"
    log = capfd.readouterr().err
    assert log.count("degraded: the engine was lost (CUDA error 700") == 1
    assert "Traceback" not in log
    wait_for(lambda: len(robot.infos) == 2, lambda: "vision_info to say so")
    assert robot.infos[1].method.startswith("colors on ONNX Runtime")
    assert robot.infos[1].database_version == 1


@pytest.mark.parametrize("kind", ["exception", "bug", "not finite", "hang"])
def test_every_way_to_fail_is_survived(robot, capfd, kind):
    robot.stream.classify(make_image("red", 1))
    engine, release = robot.engines[0], threading.Event()

    def fail():
        if kind == "exception":
            raise EngineError("execute_async_v3 returned False")
        if kind == "bug":
            raise ZeroDivisionError("a bug in an engine")
        if kind == "hang":
            release.wait(30)
        engine.output[0, 0] = np.nan

    engine.fault = fail
    result = robot.stream.classify_once(make_image("green", 2))
    assert result.results[0].class_id == "1"
    robot.diagnostics.wait_for_level("engine", WARN)
    assert ("Traceback" in capfd.readouterr().err) == (kind == "bug")
    counts = robot.node.counters["/image"].snapshot()
    assert (counts.failed, counts.in_flight) == (0, 0)
    release.set()


def test_services_answer_while_the_engine_hangs_and_a_new_configure_tries_it_again(robot):
    robot.stream.classify(make_image("red", 1))
    release = threading.Event()
    robot.engines[0].fault = lambda: release.wait(30)
    robot.stream.classify_once(make_image("green", 2))
    begin_s = time.monotonic()
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert robot.peer.change(transition)
    assert time.monotonic() - begin_s < 10.0
    assert len(robot.engines) == 2
    robot.diagnostics.wait_for_level("engine", OK)
    robot.stream.classify(make_image("blue", 3))
    release.set()


def test_a_gpu_is_lost_under_the_real_runtime(local, peer, monkeypatch):
    """All of the TensorRT engine but the GPU and NVIDIA's libraries, in the node, over DDS."""
    gpus = []

    def load(order):
        gpus.append(StandinCuda())
        return standin_engine(order.bundle, gpus[-1])

    monkeypatch.setattr(LOAD, load)
    diagnostics = peer.watch()
    assert peer.change("configure")
    assert peer.change("activate")
    stream = Stream(peer)
    stream.classify(make_image("red", 1))
    for stamp_ns, encoding in enumerate(("rgb8", "bgr8", "rgb8", "rgb8"), start=2):
        image = make_image("blue", stamp_ns, encoding=encoding)
        assert stream.classify_once(image).results[0].class_id == "2"
    assert gpus[0].calls["capture"] >= 1
    assert diagnostics.wait_for_level("engine", OK).message.startswith("TensorRT 10.3.0, Stand-in")
    gpus[0].break_context()
    assert stream.classify_once(make_image("green", 10)).results[0].class_id == "1"
    diagnostics.wait_for_level("engine", WARN)
    wait_for(lambda: gpus[0].was_abandoned, lambda: "the lost context to be left alone")
    assert local.counters["/image"].snapshot().failed == 0


def test_without_a_plan_auto_runs_on_the_cpu_and_says_why(local, peer, monkeypatch, capfd):
    def missing(_order):
        raise PlanMissing(Path("plans"), "no plan of colors in fp16; run: perception build colors")

    monkeypatch.setattr(LOAD, missing)
    diagnostics = peer.watch()
    assert peer.change("configure")
    diagnostics.wait_for_level("engine", OK)
    assert "perception build colors" in diagnostics.value("chosen because")
    assert local._pipeline.lost is None
    assert "runs on ONNX Runtime" in capfd.readouterr().err


def test_while_a_plan_is_built_the_node_answers_and_says_how_far_it_is(
    domain, peer, color_model, monkeypatch, capfd
):
    may_end = threading.Event()

    def build(order):
        order.progress.say_build(BuildProgress("Building the engine", 0.5, 7.0))
        assert may_end.wait(2 * DEADLINE_S)
        return Breakable(order)

    monkeypatch.setattr(LOAD, build)
    with local_node(domain, model=str(color_model), diagnostics_period_s=0.1) as node:
        diagnostics = peer.watch()
        peer.state()
        answer = peer.ask("configure")
        diagnostics.wait_for_value(
            "configuring", "building the TensorRT plan: Building the engine"
        )
        diagnostics.skip(10)
        assert peer.state() == "configuring"
        assert not answer.done()
        may_end.set()
        wait_for(answer.done, lambda: "the answer")
        assert answer.result().success
        assert node._pipeline.lost is None
    said = "configuring: building the TensorRT plan: Building the engine, "
    assert capfd.readouterr().err.count(said) == 1, "one line every few seconds is enough"


def test_where_tensorrt_is_a_must_configuring_fails_without_it(domain, peer, color_model, capfd):
    """No GPU is here, or no plan: either way it is one line, and the node lives on."""
    with local_node(domain, model=str(color_model), engine="tensorrt", precision="int8") as node:
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        assert node._pipeline is None
    log = capfd.readouterr().err
    assert "configure failed: " in log
    assert "Traceback" not in log
