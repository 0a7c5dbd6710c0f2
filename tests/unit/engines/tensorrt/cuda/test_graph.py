# SPDX-License-Identifier: Apache-2.0
"""The real graph code on a driver that records copies."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from perception_node.engines.tensorrt.cuda.graph import GraphDriver
from perception_node.errors import EngineError
from tests.fake_cuda.fake_driver import build_driver, compiler, load_driver

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the fake driver")


class Rig:
    """A stream and two arrays; ``copy`` puts a copy from one to the other on the stream."""

    def __init__(self):
        self.driver = load_driver()
        self.driver.cuCtxPushCurrent_v2(None)
        handle = ctypes.c_void_p()
        assert self.driver.cuStreamCreate(ctypes.byref(handle), 1) == 0
        self.stream = handle.value
        self.graphs = GraphDriver(str(build_driver()))
        self.source = np.arange(8, dtype=np.uint8)
        self.target = np.zeros(8, np.uint8)

    def copy(self):
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (self.target, self.source)]
        stream = ctypes.c_void_p(self.stream)
        assert self.driver.cuMemcpyHtoDAsync_v2(*addresses, ctypes.c_size_t(8), stream) == 0

    def wait(self):
        assert self.driver.cuStreamSynchronize(ctypes.c_void_p(self.stream)) == 0

    def close(self):
        self.driver.fake_break(0)
        self.driver.cuStreamDestroy_v2(ctypes.c_void_p(self.stream))
        self.driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@pytest.fixture
def rig():
    rig = Rig()
    before = rig.driver.fake_live()
    yield rig
    assert rig.driver.fake_live() == before, "a graph was not freed"
    rig.close()


def test_recorded_work_runs_at_every_launch_and_not_before(rig):
    graph = rig.graphs.capture(rig.stream, rig.copy)
    rig.wait()
    assert not rig.target.any()
    for value in (7, 9):
        rig.source[:] = value
        graph.launch()
        rig.wait()
        assert (rig.target == value).all()
    assert graph.nodes == 1
    graph.free()


def test_an_empty_graph_is_refused(rig):
    with pytest.raises(EngineError, match="empty"):
        rig.graphs.capture(rig.stream, lambda: None)


def test_work_that_fails_leaves_the_stream_usable(rig):
    def fail():
        rig.copy()
        raise ValueError

    with pytest.raises(ValueError):
        rig.graphs.capture(rig.stream, fail)
    rig.copy()
    rig.wait()
    assert rig.target[7] == 7


def test_an_error_of_the_driver_says_what_and_where(rig):
    graph = rig.graphs.capture(rig.stream, rig.copy)
    rig.driver.fake_break(700)
    with pytest.raises(EngineError, match=r"cuGraphLaunch failed: an illegal memory .* \(700\)"):
        graph.launch()
    rig.driver.fake_break(0)
    graph.free()


def test_a_recording_that_cannot_begin_is_an_error(rig):
    rig.driver.fake_break(999)
    with pytest.raises(EngineError, match="cuStreamBeginCapture_v2"):
        rig.graphs.capture(rig.stream, rig.copy)


def test_no_driver_is_an_error():
    with pytest.raises(EngineError, match="driver"):
        GraphDriver("libnowhere.so.1")


def test_an_old_driver_says_so():
    assert GraphDriver(str(build_driver())).is_complete
    assert not GraphDriver("libc.so.6").is_complete
