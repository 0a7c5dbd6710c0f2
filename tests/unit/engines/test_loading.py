# SPDX-License-Identifier: Apache-2.0
"""Loading on another thread: within its time, stopped when it is no longer wanted, freed once."""

from __future__ import annotations

import threading
import time

import pytest

from perception_node.engines import loading as module
from perception_node.engines.loading import Loading, is_stuck
from perception_node.engines.tensorrt.progress import BuildProgress
from perception_node.errors import EngineError

BOUND_S = 0.2
SLOW_S = 30.0


class Model:
    """What is loaded; says whether it was closed."""

    def __init__(self):
        self.is_closed = threading.Event()

    def close(self):
        self.is_closed.set()


@pytest.fixture
def model():
    return Model()


def begin(load, timeout_s=SLOW_S, on_end=None):
    loading = Loading(load, timeout_s)
    loading.start(on_end)
    return loading


def until_given_up(progress):
    """Load for ever, as a library that can be stopped."""
    stopped = threading.Event()
    progress.say("warming up")
    with progress.stopped_by(stopped.set):
        assert stopped.wait(SLOW_S)
    raise EngineError("stopped")


def test_a_model_that_is_ready_is_the_callers(model):
    ends = []
    loading = begin(lambda _progress: model, on_end=lambda: ends.append(1))
    assert loading.wait() is model
    assert ends == [1]
    loading.discard("late")
    assert not model.is_closed.is_set()


def test_what_loading_raises_is_raised_where_somebody_waits():
    def fail(_progress):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        begin(fail).wait()


def test_what_takes_too_long_is_stopped_and_named():
    loading = begin(until_given_up, BOUND_S)
    with pytest.raises(EngineError, match=r"not ready in 0\.2 s, at last: warming up; raise conf"):
        loading.wait()
    loading.join(SLOW_S)
    assert not is_stuck()


def test_the_time_of_a_build_does_not_count(model):
    def load(progress):
        progress.say_build(BuildProgress("timing", 0.5, 1.0))
        time.sleep(4 * BOUND_S)  # what must not count is time
        return model

    loading = begin(load, BOUND_S)
    assert loading.wait() is model
    assert loading.phase == "building the TensorRT plan: timing"


def test_a_process_that_stood_still_does_not_blame_the_model(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    loading = Loading(until_given_up, 30.0)
    for now_s[0] in (1.0, 1000.0, 1001.0):
        loading.look()
    loading.start()
    for now_s[0] in (1010.0, 1020.0):
        loading.look()
    loading.give_up("enough")
    with pytest.raises(EngineError, match="enough"):
        loading.wait()


def test_what_was_given_up_begins_no_other_phase_and_is_freed(model):
    may_go_on = threading.Event()

    def load(_progress):
        assert may_go_on.wait(SLOW_S)
        return model

    loading = begin(load)
    loading.give_up("not wanted")
    with pytest.raises(EngineError, match="given up at: starting; not wanted"):
        loading.wait()
    assert is_stuck()
    may_go_on.set()
    assert model.is_closed.wait(SLOW_S)
    loading.join(SLOW_S)
    assert not is_stuck()


def test_a_phase_that_begins_after_that_is_refused():
    progress = module.Phases()
    progress.give_up()
    with pytest.raises(EngineError, match="given up"):
        progress.say("warming up")
    with pytest.raises(EngineError, match="given up"), progress.stopped_by(pytest.fail):
        pytest.fail("it must not begin")


def test_a_model_that_nobody_fetches_is_freed(model):
    is_over = threading.Event()
    loading = begin(lambda _progress: model, on_end=is_over.set)
    assert is_over.wait(SLOW_S)
    loading.discard("the node ends")
    assert model.is_closed.is_set()


def test_without_a_thread_it_fails_where_somebody_waits(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    loading = Loading(lambda _progress: None, SLOW_S)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    ends = []
    loading.start(lambda: ends.append(1))
    assert ends == [1]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        loading.wait()
