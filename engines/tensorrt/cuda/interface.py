# SPDX-License-Identifier: Apache-2.0
"""The little that the TensorRT engine needs of CUDA; PyCUDA is one that gives it.

All memory is counted in bytes, all addresses are plain integers as TensorRT takes them. Copies,
kernels and graphs are put on the one stream of a ``Cuda`` and are done when ``synchronize``
returns. Everything belongs to the thread that made the ``Cuda``: it makes, uses, frees.

Every call raises ``EngineError`` when CUDA reports a failure, and ``EngineLost`` when the failure
is one that stays: after an illegal address or a failed launch every later call fails too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.gpu import Gpu


class HostMemory(Protocol):
    """Page-locked memory of the CPU, which the GPU copies from and to on its own.

    Attributes:
        array: its bytes, uint8 of shape (size,).
        device_address: where kernels find the same bytes, 0 unless it was made ``mapped``.

    """

    array: NDArray[np.uint8]
    device_address: int

    def free(self) -> None:
        """Give the memory back; ``array`` must not be touched after it."""


class DeviceMemory(Protocol):
    """Memory of the GPU.

    Attributes:
        address: where it begins.

    """

    address: int

    def free(self) -> None:
        """Give the memory back."""


class Kernel(Protocol):
    """A compiled kernel; its arguments are a structure by value, a source and a target address."""

    def launch(
        self,
        grid: tuple[int, int],
        block: tuple[int, int, int],
        parameters: bytes,
        source: int,
        target: int,
    ) -> None:
        """Put the kernel on the stream.

        Args:
            grid: number of blocks in x and y.
            block: number of threads of a block in x, y and z.
            parameters: the structure, in the layout of C.
            source: address of what it reads.
            target: address of what it writes.

        """


class Graph(Protocol):
    """Work that was recorded once and is put on the stream with one call.

    Attributes:
        nodes: number of its copies and kernels.

    """

    nodes: int

    def launch(self) -> None:
        """Put all of it on the stream."""

    def free(self) -> None:
        """Give back what the graph holds."""


class Cuda(Protocol):
    """One GPU with its context and one stream, owned by the thread that made it.

    Attributes:
        gpu: the facts of the GPU.
        stream: handle of the stream, which never waits for the default stream.
        can_capture: whether ``capture`` works here.

    """

    gpu: Gpu
    stream: int
    can_capture: bool

    def host_memory(self, size: int, *, mapped: bool) -> HostMemory:
        """Return page-locked memory; ``mapped`` lets kernels use it where it is."""

    def device_memory(self, size: int) -> DeviceMemory:
        """Return memory of the GPU, with undefined content."""

    def upload(self, target: int, source: NDArray[np.uint8]) -> None:
        """Copy page-locked bytes to an address of the GPU, in the order of the stream."""

    def download(self, target: NDArray[np.uint8], source: int) -> None:
        """Copy from an address of the GPU into page-locked bytes, in the order of the stream."""

    def compile(self, source: str, name: str) -> Kernel:
        """Compile CUDA C++ for this GPU and return the ``extern "C"`` kernel of that name.

        Raises:
            EnvironmentLacks: there is no compiler here.
            EngineError: the source does not compile, or has no such kernel.

        """

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` puts on the stream, which does not run yet, as a graph.

        The stream can be used as before after it, also when recording failed.
        """

    def synchronize(self) -> None:
        """Wait until everything on the stream is done. Python's lock is released meanwhile."""

    def check(self) -> None:
        """Raise ``EngineLost`` if the context is broken for good. Never waits for the GPU."""

    def close(self) -> None:
        """Free the stream and leave the context, on the thread that made it.

        All memory, graphs and whatever else lives in the context must be freed before. Calling
        it twice is allowed.
        """

    def abandon(self) -> None:
        """Leave a context that is lost without freeing anything in it, which could hang.

        The thread can end after it; what was made in the context is lost until the process ends.
        """
