# SPDX-License-Identifier: Apache-2.0
"""Every call that a lifecycle's step makes fails in turn, as in rcutils' fault injection."""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

import pytest

from perception_node.engines import engine_thread, selection
from perception_node.engines.fallback import FallbackPipeline
from perception_node.engines.onnxruntime import OnnxRuntimeEngine, loading
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import EngineError
from perception_node.flow import supervisor
from perception_node.ros import camera_topics, node, outputs
from perception_node.ros.node import PerceptionNode
from tests.builders import ROOT
from tests.ros.harness import wait_for
from tests.ros.stepped import (
    ERROR,
    FAILURE,
    RCLPY_CALLS,
    SUCCESS,
    stepped_node,
    working_threads,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.ros
CAMERAS = ["/front/image", "/rear/image"]

# What makes something fails before it has made it.
MAKES = [
    (selection, "find_model"),
    (selection, "load_bundle"),
    (loading, "OnnxRuntimeEngine"),
    (engine_thread.EngineThread, "start"),
    (Pipeline, "warm_up"),
    (node, "load_pipeline"),
    (node, "find_places"),
    (node, "CameraTopics"),
    (camera_topics, "Outputs"),
    (camera_topics, "ImageReader"),
    (PerceptionNode, "create_lifecycle_publisher"),
    (PerceptionNode, "create_publisher"),
    (outputs.Outputs, "announce"),
    (node, "SubscribedImages"),
    (node, "FrameLoop"),
    (node, "Supervisor"),
    (supervisor.Supervisor, "start"),
    (engine_thread.EngineThread, "begin"),
    (threading.Thread, "start"),
    (node, "RealTimeSetup"),
    (node.RealTimeSetup, "apply"),
    (camera_topics.CameraTopics, "start"),
    (camera_topics.CameraTopics, "_event_callbacks"),
    (camera_topics, "take_events"),
    (PerceptionNode, "create_subscription"),
    *RCLPY_CALLS,
    (PerceptionNode, "log_accounts"),
]
# What frees something fails when that is done: freeing it again is not possible.
FREES = [
    (PerceptionNode, "destroy_subscription"),
    (PerceptionNode, "destroy_lifecycle_publisher"),
    (PerceptionNode, "destroy_publisher"),
    (camera_topics.CameraTopics, "stop"),
    (outputs.Outputs, "destroy"),
    (supervisor.Supervisor, "stop"),
    (node.RealTimeSetup, "undo"),
    (FallbackPipeline, "close"),
]


def user_error():
    """An error that somebody outside can cause."""
    return EngineError("the injected fault")


def bug():
    """An error that is ours."""
    return ZeroDivisionError("the injected fault")


@dataclass(frozen=True)
class Step:
    """Where a step begins, where the lifecycle leads when it fails, and calls that it makes."""

    before: tuple[str, ...]
    outcomes: dict[Callable, tuple]
    calls: set[str]


# Nobody outside can make these fail, so whatever does is a bug, and everything is freed.
FREEING = dict.fromkeys((user_error, bug), (ERROR, "unconfigured"))
STEPS = {
    "configure": Step(
        (),
        {user_error: (FAILURE, "unconfigured"), bug: (ERROR, "unconfigured")},
        {
            "node.load_pipeline",
            "selection.load_bundle",
            "loading.OnnxRuntimeEngine",
            "Thread.start",
            "Pipeline.warm_up",
            "PerceptionNode.create_lifecycle_publisher",
            "PerceptionNode.create_publisher",
            "Publisher.publish",
        },
    ),
    "activate": Step(
        ("configure",),
        {user_error: (FAILURE, "inactive"), bug: (ERROR, "unconfigured")},
        {
            "Thread.start",
            "RealTimeSetup.apply",
            "PerceptionNode.create_subscription",
            "LifecyclePublisher.on_activate",
        },
    ),
    "deactivate": Step(
        ("configure", "activate"),
        FREEING,
        {
            "PerceptionNode.destroy_subscription",
            "Supervisor.stop",
            "RealTimeSetup.undo",
            "LifecyclePublisher.on_deactivate",
        },
    ),
    "cleanup": Step(
        ("configure",),
        FREEING,
        {"PerceptionNode.destroy_lifecycle_publisher", "FallbackPipeline.close"},
    ),
    "shutdown": Step(
        ("configure", "activate"),
        FREEING,
        {"PerceptionNode.destroy_subscription", "Supervisor.stop", "FallbackPipeline.close"},
    ),
}
REST = {"unconfigured": ("configure", "activate"), "inactive": ("activate",)}
CASES = [(step, "onnxruntime") for step in STEPS] + [
    ("configure", "tensorrt"),
    ("cleanup", "tensorrt"),
]


class Injection:
    """Counts calls and lets one of them fail."""

    def __init__(self, patch):
        self._lock = threading.Lock()
        self._left = 0
        self._make_error = bug
        self.failed = ""
        for is_before, calls in ((True, MAKES), (False, FREES)):
            for owner, name in calls:
                patch.setattr(owner, name, self._count(owner, name, is_before=is_before))

    @contextmanager
    def armed(self, nth, make_error):
        """Let the n-th call in this block fail; ``failed`` is its name, empty for none."""
        self.failed, self._make_error, self._left = "", make_error, nth
        yield
        self._left = 0

    def _count(self, owner, name, *, is_before):
        real, shown = getattr(owner, name), f"{owner.__name__.rpartition('.')[2]}.{name}"

        @wraps(real, updated=())
        def call(*arguments, **options):
            is_due = self._is_due(shown)
            if is_due and is_before:
                raise self._make_error()
            result = real(*arguments, **options)
            if is_due:
                raise self._make_error()
            return result

        return call

    def _is_due(self, shown):
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.failed = shown
            return self._left == 0


class Engines:
    """The engines that are made, and how often each is closed."""

    def __init__(self, patch):
        self.closed = {}
        make, close = OnnxRuntimeEngine.__init__, OnnxRuntimeEngine.close

        def made(engine, *arguments, **options):
            make(engine, *arguments, **options)
            self.closed[id(engine)] = [engine, 0]  # kept, so that the id is not given again

        def closing(engine):
            close(engine)
            self.closed[id(engine)][1] += 1

        patch.setattr(OnnxRuntimeEngine, "__init__", made)
        patch.setattr(OnnxRuntimeEngine, "close", closing)

    def counts(self):
        """Return how often each was closed."""
        return sorted(number for _, number in self.closed.values())


@pytest.fixture
def engines(monkeypatch):
    return Engines(monkeypatch)


@pytest.fixture
def injection(monkeypatch):
    return Injection(monkeypatch)


@pytest.fixture
def robot(engine, domain, color_model, monkeypatch):
    """The node with two cameras, and one engine or two."""

    def load(order):  # stands where TensorRT would
        return OnnxRuntimeEngine(order.bundle, 1)

    monkeypatch.setattr("perception_node.engines.tensorrt.loading.load_engine", load)
    parameters = {
        "model": str(color_model),
        "engine": engine,
        "image_topics": CAMERAS,
        "freeze_garbage": False,  # takes long
        "disable_garbage_collection": True,
    }
    with stepped_node(domain, **parameters) as made:
        yield made


def holdings(robot):
    """Return what a step can leave behind."""
    return {
        "publishers": sorted(p.topic_name for p in robot.node.publishers),
        "subscriptions": sorted(s.topic_name for s in robot.node.subscriptions),
        "managed": len(robot.node._managed_entities),
        "collects garbage": gc.isenabled(),
    }


def require_released(robot, engines, expected, where):
    """The node must hold nothing but what it holds in this state."""
    assert holdings(robot) == expected["holdings"], where
    threads = expected["threads"]
    wait_for(lambda: working_threads() == threads, lambda: f"{where}: {working_threads()}", 5)
    open_ = threads.count("perception-engine")
    assert engines.counts() == [0] * open_ + [1] * (len(engines.closed) - open_), where


@pytest.mark.parametrize("make_error", [user_error, bug])
@pytest.mark.parametrize(("step", "engine"), CASES)
def test_every_call_of_every_step_fails_in_turn(
    robot, engines, injection, capfd, step, make_error
):
    """At the first call, then at the second, and so on until the step succeeds."""
    expected = learn_what_is_held(robot)
    failed = set()
    for nth in itertools.count(1):
        engines.closed.clear()
        robot.go_on(*STEPS[step].before)
        capfd.readouterr()
        with injection.armed(nth, make_error):
            result = robot.step(step)
        log = capfd.readouterr().err
        if not injection.failed:
            break
        failed.add(injection.failed)
        where = f"call {nth}, {injection.failed}"
        assert (result, robot.state()) == STEPS[step].outcomes[make_error], f"{where}\n{log}"
        assert log.count("the injected fault") == 1, log
        assert ("Traceback" in log) == (result == ERROR), log
        require_released(robot, engines, expected[robot.state()], where)
        robot.go_on(*REST[robot.state()])
        robot.classify()
        robot.go_on("deactivate", "cleanup")
        require_released(robot, engines, expected["unconfigured"], where)
    assert result == SUCCESS
    assert failed >= STEPS[step].calls


def learn_what_is_held(robot):
    """Return what the node holds in each state when nothing fails."""
    expected = {}

    def learn():
        threads = working_threads()
        expected[robot.state()] = {"holdings": holdings(robot), "threads": threads}

    learn()
    for step in ("configure", "activate"):
        robot.go_on(step)
        learn()
    robot.go_on("deactivate", "cleanup")
    return expected


ROUNDS, PERIOD, SETTLED = 200, 20, 20
GROWTH_KIB = 1024


def test_two_hundred_rounds_leave_nothing_behind(domain, color_model, unmeasured):
    """In a process whose memory is all malloc's: what is in use is then known to the byte.

    RSS holds free blocks as well, which lie differently in each run: it varies by 1 MB either way.
    """
    module = "tests.ros.stepped"
    numbers = map(str, (domain, ROUNDS, PERIOD))
    done = subprocess.run(
        [sys.executable, "-m", module, str(color_model), *numbers],
        cwd=ROOT,
        env={**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout)
    settled, last = samples[SETTLED // PERIOD], samples[-1]
    for kind in ("files", "threads"):
        assert last[kind] <= settled[kind], samples
    assert last["objects"] - settled["objects"] < ROUNDS // 4, samples  # less than one a round
    assert last["used_kib"] - settled["used_kib"] < GROWTH_KIB, samples
    assert last["rss_kib"] - settled["rss_kib"] < 2 * GROWTH_KIB, samples
