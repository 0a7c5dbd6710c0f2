# SPDX-License-Identifier: Apache-2.0
"""The frame loop goes on when its engine fails or hangs, with real engines and their threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import LatencyConfig
from perception_node.errors import EngineError, EngineLost, FrameTooLarge
from perception_node.flow.accounts import FrameCounters
from perception_node.flow.deadline import Deadline
from perception_node.flow.frame_loop import FrameLoop
from perception_node.flow.supervisor import Supervisor
from perception_node.model.bundle import load_bundle
from tests.builders import BLUE, GREEN, RED, image_message, solid
from tests.engine_builders import PATIENCE_S, PAUSE_S, Rig, raising, wait_for
from tests.newest_images import Handler, Images

pytestmark = pytest.mark.timeout(60)
HANG_S = 0.2
CONFIG = NodeConfig(latency=LatencyConfig(deadline_ms=60_000))
COLORS = {"red": RED, "green": GREEN, "blue": BLUE}


class Robot(Rig):
    """Engines with a loop and its supervisor."""

    def go(self, timeout_s=PATIENCE_S, **options):
        self.open(timeout_s, **options)
        self.handler, self.images = Handler("raw"), Images()
        self.counters, self.losses = FrameCounters(), []
        camera = self.handler.camera(self.counters, Deadline("arrival", time.time_ns))
        self.loop = FrameLoop([camera], self.images, lambda: CONFIG)
        self.supervisor = Supervisor(
            self.pipeline, self.loop, lambda: self.losses.append(self.pipeline.description)
        )
        self.supervisor.start()

    def send(self, color):
        pixels = np.ascontiguousarray(solid(COLORS[color])[..., ::-1])
        self.images.put(0, image_message(pixels, "bgr8"))

    def label(self, color):
        """Send a frame and return the label of its result."""
        seen = len(self.handler.results)
        self.send(color)
        wait_for(lambda: len(self.handler.results) > seen)
        (label,) = self.handler.results[seen:]
        return label

    def fail(self, color="red"):
        """Send a frame, wait until it failed and return what was reported."""
        failed = self.counters.snapshot().failed
        self.send(color)
        wait_for(lambda: self.counters.snapshot().failed > failed)
        return self.handler.reported[-1]

    def end(self):
        """Stop the loop and return its account, which must be balanced."""
        assert self.supervisor.stop(PATIENCE_S)
        counts = self.counters.snapshot()
        assert (counts.in_flight, counts.published) == (0, len(self.handler.results))
        return counts

    def running(self):
        """Return the names of our threads."""
        names = [thread.name for thread in threading.enumerate()]
        return sorted(name for name in names if name.startswith("perception-"))


@pytest.fixture
def robot(color_bundle):
    robot = Robot(load_bundle(color_bundle))
    yield robot
    for hang in robot.hangs:
        hang.release()
    robot.supervisor.abandon()
    robot.supervisor.stop(PATIENCE_S)
    robot.close()
    wait_for(lambda: robot.running() == [])


def test_frames_are_classified_on_the_thread_of_their_engine(robot):
    robot.go()
    assert [robot.label(color) for color in COLORS] == list(COLORS)
    assert set(robot.handler.threads) == {robot.first.owner}
    assert robot.running() == ["perception-engine", "perception-engine", "perception-supervisor"]
    (number,) = robot.supervisor.native_ids
    assert Path(f"/proc/self/task/{number}/comm").read_text().strip() == "perc-supervisor"
    counts = robot.end()
    assert (counts.received, counts.published) == (3, 3)
    assert robot.losses == []
    assert robot.running() == ["perception-engine", "perception-engine"]


def test_the_loop_can_be_started_again_on_the_same_engine(robot):
    robot.go()
    robot.label("red")
    robot.end()
    again = Supervisor(robot.pipeline, robot.loop, print)
    again.start()
    assert robot.label("blue") == "blue"
    assert set(robot.handler.threads) == {robot.first.owner}
    assert again.stop(PATIENCE_S)


# What fails


@pytest.mark.parametrize("error", [EngineError("out of memory"), ZeroDivisionError("a bug")])
def test_the_standby_classifies_the_very_frame_that_the_first_failed_on(robot, error):
    robot.go()
    assert robot.label("red") == "red"
    robot.first.fault = raising(error)
    assert robot.label("green") == "green"
    assert robot.label("blue") == "blue"
    assert set(robot.handler.threads[1:]) == {robot.second.owner}
    wait_for(lambda: robot.losses == ["the second"])
    assert robot.pipeline.lost is error
    assert robot.first.is_closed.wait(PATIENCE_S)
    counts = robot.end()
    assert (counts.received, counts.published, counts.failed) == (3, 3, 0)


def test_an_engine_that_survives_errors_loses_one_frame(robot):
    robot.go(first_survives=True, standby=False)
    robot.first.fault = raising(EngineError("not finite"))
    assert str(robot.fail()) == "not finite"
    robot.first.fault = lambda: None
    assert robot.label("blue") == "blue"
    assert set(robot.engines) == {"the first"}
    counts = robot.end()
    assert (counts.received, counts.published, counts.failed) == (2, 1, 1)
    assert robot.losses == []


def test_a_frame_that_cannot_be_read_is_not_the_engines_fault(robot):
    robot.go()
    robot.first.fault = raising(FrameTooLarge(9, 9, 1))
    robot.send("red")
    wait_for(lambda: robot.counters.snapshot().malformed == 1)
    robot.first.fault = lambda: None
    assert robot.label("red") == "red"
    assert robot.pipeline.lost is None
    robot.end()


# What hangs


def test_an_engine_that_hangs_is_replaced_within_the_frame(robot):
    robot.go(HANG_S)
    assert robot.label("red") == "red"
    robot.first.fault = hang = robot.hang()
    begin_s = time.monotonic()
    assert robot.label("green") == "green"
    assert HANG_S <= time.monotonic() - begin_s < 10 * HANG_S
    assert robot.label("blue") == "blue"
    assert "did not answer within 0.2 s" in str(robot.pipeline.lost)
    wait_for(lambda: robot.losses == ["the second"])
    hang.release()
    robot.first.owner.join(PATIENCE_S)
    assert robot.first.is_closed.is_set()
    assert robot.label("red") == "red"
    assert robot.handler.results == ["red", "green", "blue", "red"], "the late answer is not used"
    assert robot.first.runs == 2
    counts = robot.end()
    assert (counts.received, counts.published, counts.failed) == (4, 4, 0)


def test_an_engine_that_is_slow_but_answers_is_kept(robot):
    robot.go(HANG_S)
    robot.first.fault = lambda: time.sleep(HANG_S / 2)
    assert [robot.label(color) for color in COLORS] == list(COLORS)
    assert robot.pipeline.lost is None
    robot.end()


def test_where_no_engine_is_left_frames_fail_with_the_reason(robot):
    robot.go(HANG_S)
    robot.first.fault = robot.hang()
    robot.label("red")
    robot.second.fault = robot.hang()
    for _ in range(3):
        error = robot.fail()
        assert isinstance(error, EngineLost)
        assert "no engine is left: the engine did not answer" in str(error)
    assert robot.pipeline.is_exhausted
    wait_for(lambda: robot.losses[-1] == "no engine")
    counts = robot.end()
    assert (counts.received, counts.published, counts.failed) == (4, 1, 3)


def test_once_another_engine_is_made_the_loop_goes_on_with_it(robot, monkeypatch):
    monkeypatch.setattr("perception_node.engines.fallback.FIRST_PAUSE_S", PAUSE_S)
    robot.go(HANG_S, first_survives=True, standby=False)
    robot.first.fault = robot.hang()
    robot.fault_of_make = making = robot.hang()
    assert "did not answer within 0.2 s; another is made as soon" in str(robot.fail())
    assert "another is made as soon" in str(robot.fail())
    wait_for(lambda: robot.losses == ["no engine"])
    wait_for(making.has_begun.is_set)  # without any further frame
    making.release()
    wait_for(lambda: not robot.pipeline.is_exhausted)
    assert robot.label("green") == "green"
    assert robot.handler.threads == [robot.second.owner]
    wait_for(lambda: robot.losses == ["no engine", "the second"])
    assert "perception-no-engine" not in robot.running()
    counts = robot.end()
    assert (counts.received, counts.published, counts.failed) == (3, 1, 2)


@pytest.mark.parametrize("survives", [True, False], ids=["hangs", "fails"])
def test_where_no_thread_can_be_started_frames_fail_with_the_reason(robot, monkeypatch, survives):
    monkeypatch.setattr("perception_node.engines.fallback.FIRST_PAUSE_S", PAUSE_S)
    robot.go(HANG_S, first_survives=survives, standby=False)
    robot.label("red")
    robot.first.fault = robot.hang() if survives else raising(EngineError("out of memory"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
        wait_for(lambda: "RuntimeError: can't start new thread" in str(robot.fail()))
    wait_for(lambda: robot.pipeline.keep_up() or not robot.pipeline.is_exhausted)
    assert robot.label("green") == "green"
    counts = robot.end()
    assert counts.published == 2
    assert counts.failed == counts.received - 2


# The end


def test_stopping_waits_for_the_engine_that_takes_over(robot):
    robot.go(HANG_S)
    robot.first.fault = hang = robot.hang()
    robot.send("green")
    assert hang.has_begun.wait(PATIENCE_S)
    counts = robot.end()
    assert robot.handler.results == ["green"]
    assert (counts.received, counts.published) == (1, 1)
    assert robot.losses == ["the second"]


def test_stopping_does_not_wait_for_ever(robot):
    robot.go(first_survives=True)
    robot.first.fault = hang = robot.hang()
    robot.send("red")
    assert hang.has_begun.wait(PATIENCE_S)
    assert not robot.supervisor.stop(HANG_S)
    robot.supervisor.abandon()
    counts = robot.end()
    assert (counts.received, counts.failed) == (1, 1)
    assert "it did not finish its frame in time to stop" in str(robot.pipeline.lost)
    assert robot.pipeline.description == "the second"
    hang.release()
    wait_for(lambda: robot.first.runs == 1)
    assert robot.handler.results == []
    assert robot.second.runs == 0, "the frame must not be tried again"
    again = Supervisor(robot.pipeline, robot.loop, print)
    again.start()
    assert robot.label("blue") == "blue"
    assert again.stop(PATIENCE_S)


def test_an_idle_loop_that_is_abandoned_ends(robot):
    robot.go()
    robot.supervisor.abandon()
    assert robot.end().received == 0


def test_a_loss_that_cannot_be_told_does_not_end_the_supervisor(robot):
    robot.go(HANG_S)
    robot.supervisor._on_change = raising(OSError("no space"))
    robot.first.fault = raising(EngineError("out of memory"))
    assert robot.label("red") == "red"
    wait_for(lambda: [str(error) for error in robot.handler.reported] == ["no space"])
    robot.second.fault = robot.hang()
    robot.fail()
    assert any("no engine is left" in str(error) for error in robot.handler.reported)
    robot.end()
