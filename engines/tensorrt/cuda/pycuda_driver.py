# SPDX-License-Identifier: Apache-2.0
"""The little that the TensorRT engine needs of CUDA, through PyCUDA.

All memory is counted in bytes, all addresses are plain integers as TensorRT takes them. Copies,
kernels and graphs are put on the one stream of a ``PyCuda`` and are done when ``synchronize``
returns. Everything belongs to the thread that made the ``PyCuda``: it makes, uses, frees.

Every call raises ``EngineError`` when CUDA reports a failure, and ``EngineLost`` when the failure
is one that stays: after an illegal address or a failed launch every later call fails too.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.engines.tensorrt.cuda.context import (
    abandon_primary_context,
    enter_primary_context,
    leave_primary_context,
)
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.engines.tensorrt.cuda.graph import GraphDriver
from perception_node.errors import EngineError, EngineLost, EnvironmentLacks
from perception_node.installing import MissingPackage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.graph import CudaGraph
    from perception_node.untyped import CudaObject

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING of cuda.h; PyCUDA has no name for it
TOOLKIT = Path("/usr/local/cuda/bin")  # where JetPack puts nvcc, often not on PATH


class PyCuda:
    """One GPU with its context and one stream, owned by the thread that made it.

    Attributes:
        gpu: the facts of the GPU.
        stream: handle of the stream, which never waits for the default stream.
        can_capture: whether ``capture`` works here.

    """

    def __init__(self) -> None:
        """Make the primary context of the GPU current on this thread, and a stream in it.

        Raises:
            EnvironmentLacks: there is no GPU, or PyCUDA cannot be imported.
            EngineError: the GPU cannot be used.

        """
        gpu = find_gpu()
        if gpu is None:
            problem = "no NVIDIA GPU 0 here, or no driver for it"
            raise EnvironmentLacks(problem, "nvidia-smi shows what is")
        self.gpu = gpu
        self._driver = _import_driver()
        self._stream: Any = None
        self._done: Any = None
        self._is_open = False
        self._graphs = GraphDriver()
        self.can_capture = self._graphs.is_complete
        with self._reporting():
            self._driver.init()
            enter_primary_context(self._driver)
        self._is_open = True
        try:
            with self._reporting():
                self._make_stream()
        except BaseException:
            self.close()
            raise

    def _make_stream(self) -> None:
        self._stream = self._driver.Stream(NON_BLOCKING)
        self.stream = int(self._stream.handle)
        # Waiting for an event of this kind sleeps; waiting for a stream would burn a core.
        flags = self._driver.event_flags
        self._done = self._driver.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)

    def host_memory(self, size: int, *, mapped: bool) -> PageLockedMemory:
        """Return page-locked memory; ``mapped`` lets kernels use it where it is."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if mapped else 0
        with self._reporting():
            array = self._driver.pagelocked_empty(size, np.uint8, mem_flags=flags)
            address = int(array.base.get_device_pointer()) if mapped else 0
        return PageLockedMemory(array, address)

    def device_memory(self, size: int) -> GpuMemory:
        """Return memory of the GPU, with undefined content."""
        with self._reporting():
            return GpuMemory(self._driver.mem_alloc(size))

    def upload(self, target: int, source: NDArray[np.uint8]) -> None:
        """Copy page-locked bytes to an address of the GPU, in the order of the stream."""
        with self._reporting():
            self._driver.memcpy_htod_async(target, source, self._stream)

    def download(self, target: NDArray[np.uint8], source: int) -> None:
        """Copy from an address of the GPU into page-locked bytes, in the order of the stream."""
        with self._reporting():
            self._driver.memcpy_dtoh_async(target, source, self._stream)

    def compile(self, source: str, name: str) -> CompiledKernel:
        """Compile CUDA C++ and return the ``extern "C"`` kernel of that name; PyCUDA has a cache.

        Raises:
            EnvironmentLacks: there is no compiler here.
            EngineError: the source does not compile, or has no such kernel.

        """
        compiler = import_module("pycuda.compiler")
        try:
            with self._reporting():
                module = compiler.SourceModule(
                    source, nvcc=find_compiler(), options=["-O3"], no_extern_c=True
                )
                return CompiledKernel(self, module, module.get_function(name))
        except OSError as error:  # nvcc cannot be run, or its cache cannot be written
            msg = f"the CUDA compiler nvcc failed: {error}"
            raise EngineError(msg) from error

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Record what ``work`` puts on the stream, which does not run yet, as a graph.

        The stream can be used as before after it, also when recording failed.
        """
        return self._graphs.capture(self.stream, work)

    def synchronize(self) -> None:
        """Wait, asleep and without Python's lock, until everything on the stream is done."""
        with self._reporting():
            self._done.record(self._stream)
            self._done.synchronize()

    def check(self) -> None:
        """Raise ``EngineLost`` if the context is broken for good. Never waits for the GPU."""
        try:
            self._stream.is_done()  # every call of a broken context fails, also this question
        except self._driver.Error as error:
            msg = f"the GPU failed and its context is lost ({_first_line(error)})"
            raise EngineLost(msg) from error

    def close(self) -> None:
        """Free the stream and leave the context, on the thread that made it; twice is allowed.

        All memory, graphs and whatever else lives in the context must be freed before.
        """
        if self._is_open:
            self._is_open = False
            self._stream = self._done = None
            with self._reporting():
                leave_primary_context()

    def abandon(self) -> None:
        """Leave a context that is lost without freeing anything in it, which could hang.

        The thread can end after it; what was made in the context is lost until the process ends.
        """
        if self._is_open:
            self._is_open = False
            abandon_primary_context()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn PyCUDA's errors into ours."""
        try:
            yield
        except self._driver.Error as error:
            if self._stream is not None:
                self.check()
            msg = f"CUDA failed: {_first_line(error)}"
            raise EngineError(msg) from error

    def launch(self, prepared: Callable[[Any], None]) -> None:
        """Call what puts a kernel on a stream, with our stream."""
        with self._reporting():
            prepared(self._stream)


class PageLockedMemory:
    """Page-locked memory of the CPU, which the GPU copies from and to on its own.

    Attributes:
        array: its bytes, uint8 of shape (size,); must not be touched once it is freed.
        device_address: where kernels find the same bytes, 0 unless it was made ``mapped``.

    """

    def __init__(self, array: NDArray[np.uint8], device_address: int) -> None:
        self.array = array
        self.device_address = device_address
        self._allocation: Any = array.base

    def free(self) -> None:
        """Give it back."""
        self._allocation.free()


class GpuMemory:
    """Memory of the GPU, which begins at ``address``."""

    def __init__(self, allocation: CudaObject) -> None:
        self.address = int(allocation)
        self._allocation = allocation

    def free(self) -> None:
        """Give it back."""
        self._allocation.free()


class CompiledKernel:
    """A compiled kernel; its arguments are a structure by value, a source and a target address."""

    def __init__(self, cuda: PyCuda, module: CudaObject, function: CudaObject) -> None:
        self._cuda = cuda
        self._module = module  # the function lives in it
        self._function = function

    def launch(
        self,
        grid: tuple[int, int],
        block: tuple[int, int, int],
        parameters: bytes,
        source: int,
        target: int,
    ) -> None:
        """Put the kernel on the stream.

        ``grid`` counts blocks in x and y, ``block`` the threads of one in x, y and z.
        ``parameters`` is the structure, in the layout of C; the addresses are those of what is
        read and of what is written.
        """
        self._function.prepare([f"{len(parameters)}s", "P", "P"])
        arguments = (parameters, source, target)
        call = self._function.prepared_async_call
        self._cuda.launch(lambda stream: call(grid, block, stream, *arguments))


def find_compiler() -> str:
    """Return the path of nvcc.

    Raises:
        EnvironmentLacks: it is neither on PATH nor where JetPack puts it.

    """
    found = shutil.which("nvcc") or shutil.which("nvcc", path=str(TOOLKIT))
    if found is None:
        problem = f"nvcc is neither on PATH nor in {TOOLKIT}"
        raise EnvironmentLacks(problem, "install the CUDA toolkit")
    return found


def _import_driver() -> CudaObject:
    try:
        return import_module("pycuda.driver")
    except ImportError as error:
        raise MissingPackage(error) from error


def _first_line(error: Exception) -> str:
    """Return what went wrong in one line; of a compiler's complaints, the first one."""
    complaint = str(getattr(error, "stderr", "") or "").strip()
    lines = [text.strip().partition("\n")[0] for text in (str(error), complaint) if text.strip()]
    return ": ".join(lines)[:300] or type(error).__name__
