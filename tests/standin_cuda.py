# SPDX-License-Identifier: Apache-2.0
"""CUDA without a GPU: a ``Cuda`` over host memory that is as unforgiving as the real one.

Work waits on the stream until it is synchronized, memory that was freed holds rubbish, every call
checks its thread, and ``close`` checks that nothing was left. Any call can be told to fail. The
kernel is the real one, compiled for the host.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from itertools import count

import numpy as np

from perception_node.engines.tensorrt.cuda.gpu import Gpu
from perception_node.engines.tensorrt.cuda.kernel import KERNEL_NAME
from perception_node.errors import EngineError, EngineLost, EnvironmentLacks
from tests.cuda_host import host_kernel

STREAMS = {}  # by handle, as TensorRT gets them
RUBBISH = 0xAB
_handles = count(1)


def standin_gpu(*, integrated: bool = False) -> Gpu:
    return Gpu(
        name="Orin" if integrated else "Stand-in",
        compute_capability="8.7",
        sm_count=16,
        integrated=integrated,
        can_map_host_memory=True,
        memory_bytes=8 << 30,
        cuda="12.6",
    )


class Stream:
    """Work that is done when somebody waits for it, or recorded where it is being captured."""

    def __init__(self):
        self.handle = next(_handles)
        self.work = []
        self.recording = None
        STREAMS[self.handle] = self

    def put(self, job):
        (self.work if self.recording is None else self.recording).append(job)

    def run(self):
        work, self.work = self.work, []
        for job in work:
            job()


class Memory:
    """Host memory that plays page-locked memory or memory of the GPU."""

    def __init__(self, cuda, size, *, has_device_address=True):
        self._cuda = cuda
        self.array = np.full(size, RUBBISH, np.uint8)
        self.address = self.array.ctypes.data
        self.device_address = self.address if has_device_address else 0
        cuda.live.add(self)

    def free(self):
        self._cuda.live.remove(self)  # a KeyError if it was freed before
        self.array[:] = RUBBISH
        self._cuda.freed.append(self)  # kept: a late access must find rubbish, not crash


class StandinCuda:
    """A ``PyCuda`` over host memory.

    Attributes:
        calls: how often each method was called.
        copied: bytes that copies were asked for.
        live: memory and graphs that were not freed.

    """

    def __init__(self, *, integrated=False, can_capture=True, fail_at=None, how="error"):
        """Make one; the call of that number (from 0) fails, and with "sticky" all later ones.

        ``how`` may also be a callable that the call runs into, for example one that waits.
        """
        self.gpu = standin_gpu(integrated=integrated)
        self.can_capture = can_capture
        self.calls = Counter()
        self.copied = 0
        self.live = set()
        self.freed = []
        self.is_open = True
        self.is_broken = False
        self.was_abandoned = False
        self._fail_at = fail_at
        self._how = how
        self._thread = threading.get_ident()
        self._stream = Stream()
        self.stream = self._stream.handle

    def called(self, name):
        """Count a call, check that it is allowed, and fail if it is its turn."""
        assert self.is_open, f"{name} after close"
        assert threading.get_ident() == self._thread, f"{name} on a foreign thread"
        number = sum(self.calls.values())
        self.calls[name] += 1
        if self.is_broken:
            raise EngineLost("the stand-in's context is lost")
        if number != self._fail_at:
            return
        if callable(self._how):
            self._how()
        elif self._how == "sticky":
            self.is_broken = True
            raise EngineLost("the stand-in's context is lost")
        else:
            msg = f"the stand-in fails in {name}"
            raise EngineError(msg)

    def break_context(self):
        """Let everything fail from now on, as after an illegal address."""
        self.is_broken = True

    def fail_next(self):
        """Let the next call fail."""
        self._fail_at = sum(self.calls.values())

    def host_memory(self, size, *, mapped):
        self.called("host_memory")
        return Memory(self, size, has_device_address=mapped)

    def device_memory(self, size):
        self.called("device_memory")
        return Memory(self, size)

    def upload(self, target, source):
        self.called("upload")
        self._copy(target, source.ctypes.data, source.nbytes)

    def download(self, target, source):
        self.called("download")
        self._copy(target.ctypes.data, source, target.nbytes)

    def _copy(self, target, source, size):
        self.copied += size
        self._stream.put(lambda: ctypes.memmove(target, source, size))

    def compile(self, source, name):
        self.called("compile")
        if host_kernel.compiler() is None:
            msg = "no C++ compiler for the kernel"
            raise EnvironmentLacks(msg)
        assert name == KERNEL_NAME
        assert name in source
        return StandinKernel(self)

    def capture(self, work):
        self.called("capture")
        self._stream.recording = []
        try:
            work()
            return StandinGraph(self, self._stream.recording)
        finally:
            self._stream.recording = None

    def synchronize(self):
        self.called("synchronize")
        assert self._stream.recording is None, "waiting is not allowed in a recording"
        self._stream.run()

    def check(self):
        if self.is_broken:
            raise EngineLost("the stand-in's context is lost")

    def close(self):
        if self.is_open:
            assert threading.get_ident() == self._thread
            assert not self.live, f"not freed: {self.live}"
            self._leave()

    def abandon(self):
        self.was_abandoned = True
        self._leave()

    def _leave(self):
        self.is_open = False
        STREAMS.pop(self.stream, None)


class StandinKernel:
    """The real kernel, on the host."""

    def __init__(self, cuda):
        self._cuda = cuda
        self._kernel = host_kernel.HostKernel()

    def launch(self, grid, block, parameters, source, target):
        self._cuda.called("launch")
        STREAMS[self._cuda.stream].put(
            lambda: self._kernel.launch(grid, block, parameters, source, target)
        )


class StandinGraph:
    """Recorded jobs."""

    def __init__(self, cuda, jobs):
        self._cuda = cuda
        self._jobs = jobs
        self.nodes = len(jobs)
        cuda.live.add(self)

    def launch(self):
        self._cuda.called("launch graph")
        for job in self._jobs:
            STREAMS[self._cuda.stream].put(job)

    def free(self):
        self._cuda.live.remove(self)
