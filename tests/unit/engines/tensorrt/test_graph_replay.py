# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.engines.tensorrt.graph_replay import RECORD_AFTER, GraphReplay
from perception_node.errors import EngineError, EngineLost
from tests.standin_cuda import STREAMS, StandinCuda


class Counting:
    """Work on the stream that adds ``step`` to an input and leaves it in the output."""

    def __init__(self, **options):
        self.cuda = StandinCuda(**options)
        self.value = 1.0
        self.output = np.zeros((1, 1), np.float32)
        self.enqueued = 0
        self.replay = GraphReplay(self.cuda, self.work, self.output)

    def work(self):
        self.enqueued += 1
        self.cuda.called("work")
        STREAMS[self.cuda.stream].put(self.run)

    def run(self):
        self.output[:] = self.value

    def __call__(self, key, value):
        self.value = value
        self.replay.run(key)
        self.cuda.synchronize()
        return self.output.item()


@pytest.fixture
def counting():
    counting = Counting()
    yield counting
    counting.replay.forget()
    counting.cuda.close()


def test_equal_runs_become_a_graph_that_does_the_same(counting):
    assert [counting("a", value) for value in range(10)] == list(range(10))
    assert counting.replay.is_recorded
    assert counting.cuda.calls["capture"] == 1
    assert counting.enqueued == RECORD_AFTER + 2  # once recorded, once to compare


def test_a_graph_is_not_made_for_what_changes_all_the_time(counting):
    for value in range(20):
        assert counting(value // (RECORD_AFTER - 1), value) == value
    assert counting.cuda.calls["capture"] == 0


def test_a_graph_is_not_used_for_something_else(counting):
    for value in range(10):
        counting("a", value)
    assert counting("b", 77.0) == 77.0
    assert not counting.replay.is_recorded
    for value in range(10):
        assert counting("b", value) == value
    assert counting.cuda.calls["capture"] == 2


def test_work_that_cannot_be_recorded_runs_as_before():
    fails_in_capture = RECORD_AFTER * 2  # each run before was work and synchronize
    counting = Counting(fail_at=fails_in_capture)
    assert [counting("a", value) for value in range(10)] == list(range(10))
    assert counting.cuda.calls["capture"] == 1
    assert not counting.replay.is_recorded
    assert "capture" in counting.replay.problem
    counting.cuda.close()


def test_a_driver_without_graphs_is_no_error():
    counting = Counting(can_capture=False)
    assert [counting("a", value) for value in range(10)] == list(range(10))
    assert counting.cuda.calls["capture"] == 0
    assert "no CUDA graphs" in counting.replay.problem


def test_a_graph_that_does_nothing_is_found_out(counting, monkeypatch):
    captured = counting.cuda.capture
    monkeypatch.setattr(counting.cuda, "capture", lambda _: captured(lambda: None))
    assert [counting("a", value) for value in range(10)] == list(range(10))
    assert not counting.replay.is_recorded
    assert "another result" in counting.replay.problem


def test_a_lost_context_is_not_mistaken_for_a_missing_feature():
    counting = Counting(fail_at=RECORD_AFTER * 2, how="sticky")
    with pytest.raises(EngineLost):
        [counting("a", value) for value in range(10)]


def test_an_error_at_launch_reaches_the_caller(counting):
    for value in range(10):
        counting("a", value)
    counting.cuda.fail_next()
    with pytest.raises(EngineError, match="launch graph"):
        counting("a", 1.0)
