# SPDX-License-Identifier: Apache-2.0
"""An engine that raises, answers nonsense or hangs, put into the place of the real one."""

from __future__ import annotations

import contextlib
import re
import threading
import time

import numpy as np
import pytest
from sensor_msgs.msg import Image

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineError
from perception_node.ros.qos import named_qos
from tests.ros.harness import Stream, local_node, make_image, wait_for

pytestmark = pytest.mark.ros
OK, WARN, ERROR = 0, 1, 2
TIMEOUT_MS = 500
NEVER_MS = 60_000


class Faulty(OnnxRuntimeEngine):
    """A real engine; ``fault`` is called after each inference."""

    made: list[Faulty]

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.fault = lambda: None
        self.made.append(self)

    def infer(self):
        super().infer()
        self.fault()


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """Return the engines that the node makes, in their order; no thread of theirs may stay."""
    monkeypatch.setattr("perception_node.engines.onnxruntime.loading.OnnxRuntimeEngine", Faulty)
    monkeypatch.setattr(Faulty, "made", [], raising=False)
    yield Faulty.made
    for thread in threading.enumerate():
        if thread.name == "perception-engine":
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def active(local, peer):
    """The node in this process, active."""
    assert peer.change("configure")
    assert peer.change("activate")
    return local


@pytest.fixture
def hang():
    """A fault that lasts until the end of the test; ``hang.begun`` counts those who are in it."""

    def wait():
        wait.begun += 1
        end.wait()

    end, wait.begun = threading.Event(), 0
    yield wait
    end.set()


def fail_once(engine, fault):
    """Let the next inference go wrong, and no other."""

    def fail():
        engine.fault = lambda: None
        fault()

    engine.fault = fail


def engine_error():
    raise EngineError("the device is lost")


def bug():
    raise ZeroDivisionError("a bug in an engine")


def filled(engine, value):
    def fault():
        engine.output[0, 1] = value

    return fault


@pytest.mark.parametrize("kind", ["EngineError", "bug", "NaN", "infinite"])
def test_a_failed_frame_is_lost_and_the_next_is_classified(active, peer, engines, kind, capfd):
    engine = engines[0]
    faults = {
        "EngineError": engine_error,
        "bug": bug,
        "NaN": filled(engine, np.nan),
        "infinite": filled(engine, np.inf),
    }
    diagnostics = peer.watch()
    stream = Stream(peer)
    stream.classify(make_image("red", 1))
    capfd.readouterr()

    fail_once(engine, faults[kind])
    stream.camera.publish(make_image("red", 2))
    status = diagnostics.wait_for_level("inference", ERROR)
    assert status.message == "1 frame(s) failed; see the log"
    assert diagnostics.value("failed") == "1"
    assert peer.state() == "active"

    result = stream.classify_once(make_image("green", 3))
    assert result.results[0].class_id == "1"
    diagnostics.wait_for_level("inference", OK)
    assert stream.result(2) is None
    counts = active.counters["/image"].snapshot()
    assert counts.failed == 1
    assert counts.in_flight == 0

    log = capfd.readouterr().err
    words = {
        "EngineError": "frame dropped (EngineError): the device is lost",
        "bug": "ZeroDivisionError: a bug in an engine",
        "NaN": "1 of 3 output values are NaN or infinite",
        "infinite": "1 of 3 output values are NaN or infinite",
    }
    assert log.count(words[kind]) == 1
    assert ("Traceback" in log) == (kind == "bug")


@pytest.mark.usefixtures("active")
def test_an_engine_that_always_fails_is_logged_once_in_a_while(peer, engines, capfd):
    diagnostics = peer.watch()
    stream = Stream(peer)
    stream.classify(make_image("red", 1))
    engines[0].fault = engine_error
    for failed in range(1, 11):
        stream.camera.publish(make_image("red", 1 + failed))
        diagnostics.wait_for_value("failed", failed)
    assert capfd.readouterr().err.count("frame dropped (EngineError)") == 1
    assert set(stream.stamps()) == {1}


class Robot:
    """The node, active, and the other side."""

    def __init__(self, node, peer):
        self.node, self.peer = node, peer
        self.diagnostics = peer.watch()
        assert peer.change("configure")
        assert peer.change("activate")
        self.stream = Stream(peer)
        self.stream.classify(make_image("red", 1))

    def counts(self):
        return self.node.counters["/image"].snapshot()

    def configure_again(self):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            assert self.peer.change(transition)
        wait_for(self.stream.camera.get_subscription_count, lambda: "the subscription")


@pytest.fixture
def make_robot(domain, color_model, peer, capfd):
    """Return a function that makes a robot, whose engine hangs after ``timeout_ms``."""
    del capfd  # captures what configuring logs, too
    with contextlib.ExitStack() as nodes:

        def make(timeout_ms):
            parameters = {"engine_timeout_ms": timeout_ms, "diagnostics_period_s": 0.1}
            node = local_node(domain, model=str(color_model), **parameters)
            return Robot(nodes.enter_context(node), peer)

        yield make


@pytest.fixture
def no_other(monkeypatch):
    """After a loss the node goes on with the standby engine alone; see ``test_fallback.py``."""
    monkeypatch.setattr("perception_node.engines.fallback.FIRST_PAUSE_S", 600.0)


@pytest.mark.usefixtures("no_other")
def test_a_hanging_engine_is_replaced_within_the_frame(make_robot, engines, hang, capfd):
    robot = make_robot(TIMEOUT_MS)
    engines[0].fault = hang
    result = robot.stream.classify_once(make_image("green", 2))
    assert result.results[0].class_id == "1"
    message = "degraded: ONNX Runtime"  # before it is made it has no name
    wait_for(
        lambda: robot.diagnostics.latest()["engine"].message.startswith(message),
        lambda: robot.diagnostics.latest()["engine"].message,
    )
    status = robot.diagnostics.wait_for_level("engine", WARN)
    assert "did not answer within 0.5 s" in status.message
    result = robot.stream.classify_once(make_image("blue", 3))
    assert result.results[0].class_id == "2"
    assert len(engines) == 2
    assert (robot.counts().failed, robot.counts().in_flight) == (0, 0)
    log = capfd.readouterr().err
    assert log.count("degraded: the engine was lost (the engine did not answer") == 1
    assert "Traceback" not in log


@pytest.mark.usefixtures("no_other")
def test_where_the_standby_hangs_too_frames_fail_at_once_until_another_is_made(
    make_robot, engines, hang, capfd
):
    robot = make_robot(TIMEOUT_MS)
    engines[0].fault = engines[1].fault = hang
    robot.stream.camera.publish(make_image("blue", 3))
    status = robot.diagnostics.wait_for_level("engine", ERROR)
    assert status.message.startswith("no engine is left (the engine did not answer within 0.5 s)")
    assert re.search(r"; another is made in \d+ s$", status.message)
    failed = robot.counts().failed
    for stamp_ns in range(4, 8):
        robot.stream.camera.publish(make_image("blue", stamp_ns))
        failed += 1
        robot.diagnostics.wait_for_value("failed", failed)
    assert hang.begun == 2, "nobody waits for an engine again"
    assert len(engines) == 2
    assert set(robot.stream.stamps()) == {1}
    log = capfd.readouterr().err
    assert log.count("no engine is left: the engine did not answer within 0.5 s; another is") == 1
    assert "Traceback" not in log

    for transition in ("deactivate", "activate"):  # a lifecycle manager's pause is no obstacle
        assert robot.peer.change(transition)
    robot.node._pipeline._due_s = 0.0  # the pause is over
    result = robot.stream.classify(make_image("green", 9))
    assert result.results[0].class_id == "1"
    assert len(engines) == 3
    status = robot.diagnostics.wait_for_level("engine", WARN)
    assert status.message.startswith("degraded: ONNX Runtime")
    robot.configure_again()
    robot.diagnostics.wait_for_level("engine", OK)


def test_a_hanging_engine_holds_up_neither_services_nor_deactivating(
    make_robot, engines, hang, capfd
):
    robot = make_robot(NEVER_MS)
    engines[0].fault = hang
    robot.stream.camera.publish(make_image("red", 2))
    wait_for(lambda: hang.begun, lambda: "the engine to hang")

    # The executor's thread is free: services and diagnostics go on.
    robot.peer.watch().skip(3)
    assert robot.peer.state() == "active"

    supervisor = robot.node._supervisor._thread
    begin_s = time.monotonic()
    assert robot.peer.change("deactivate")
    assert time.monotonic() - begin_s < NEVER_MS / 1000 / 2, "it waited for the engine"
    assert not supervisor.is_alive()
    log = capfd.readouterr().err
    assert "the frame at hand was not finished in 2 s; its engine is given up, ONNX Run" in log
    assert robot.peer.change("activate")
    result = robot.stream.classify(make_image("green", 3))
    assert result.results[0].class_id == "1"
    assert hang.begun == 1, "an engine that hangs must not be used again"
    assert robot.stream.result(2) is None, "a frame of the lost engine came late"
    robot.stream.classify_once(make_image("blue", 4))
    assert robot.counts().in_flight == 0
    assert robot.counts().failed == 1


@pytest.mark.usefixtures("local")
def test_a_model_that_fails_when_warmed_up_is_refused(peer, capfd, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Faulty, "infer", lambda _: engine_error())
        assert not peer.change("configure")
    log = capfd.readouterr().err
    assert "configure failed: the device is lost" in log
    assert "Traceback" not in log
    assert peer.state() == "unconfigured"
    assert peer.change("configure")


def test_a_bug_while_configuring_leads_back_to_unconfigured(local, peer, capfd, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("perception_node.ros.outputs.Outputs.announce", lambda *_: bug())
        assert not peer.change("configure")
    assert "bug in on_configure" in capfd.readouterr().err
    assert peer.state() == "unconfigured"
    assert not [p for p in local.publishers if p.topic_name.startswith("/perception/label")]
    assert peer.change("configure")
    assert peer.change("activate")
    Stream(peer).classify(make_image("red", 1))


def test_a_failing_overlay_does_not_take_the_classification_with_it(active, peer, capfd):
    stream = Stream(peer)
    stream.classify(make_image("red", 1))
    active._cameras[0].outputs._unpacker.unpack = lambda _frame: bug()
    peer.collect(Image, "/perception/overlay", named_qos("sensor_data"))
    wait_for(lambda: active.count_subscribers("/perception/overlay"), lambda: "the watcher")
    for stamp_ns in range(2, 6):
        stream.classify_once(make_image("red", stamp_ns))
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert active.counters["/image"].snapshot().failed == 0
