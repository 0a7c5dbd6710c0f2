# SPDX-License-Identifier: Apache-2.0
"""Memory that the CPU and the GPU both see, in the way that suits the kind of GPU.

An integrated GPU (Jetson) shares the CPU's memory: it reads and writes page-locked memory where
it is, and nothing is copied. A discrete GPU would do so through PCIe for every access, so there
a second buffer lies in its own memory, and copies are put on the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.pycuda_driver import GpuMemory, PyCuda


class SharedBuffer:
    """One buffer with a side for the CPU and a side for the GPU.

    Attributes:
        host: the CPU's side, uint8 of shape (size,).
        address: the GPU's side.
        is_mapped: both are the same memory.

    """

    def __init__(self, cuda: PyCuda, size: int, *, mapped: bool | None = None) -> None:
        """Make a buffer of ``size`` bytes; the CPU's side is zeros.

        ``mapped`` says whether both share the memory; by default where the GPU is integrated.

        Raises:
            EngineError: there is not enough memory.

        """
        self._cuda = cuda
        if mapped is None:
            mapped = cuda.gpu.integrated and cuda.gpu.can_map_host_memory
        self.is_mapped = mapped
        self._host = cuda.host_memory(size, mapped=self.is_mapped)
        self._device: GpuMemory | None = None
        if not self.is_mapped:
            try:
                self._device = cuda.device_memory(size)
            except BaseException:
                self._host.free()
                raise
        self.host: NDArray[np.uint8] = self._host.array
        self.host[:] = 0
        self.address = self._device.address if self._device else self._host.device_address

    def upload(self, count: int | None = None) -> None:
        """Let the GPU see what the CPU wrote, or its first bytes, in the order of the stream."""
        if self._device:
            self._cuda.upload(self.address, self.host[:count])

    def download(self) -> None:
        """Let the CPU see what the GPU wrote, once the stream is synchronized."""
        if self._device:
            self._cuda.download(self.host, self.address)

    def free(self) -> None:
        """Give the memory back; ``host`` must not be touched after it."""
        if self._device:
            self._device.free()
        self._host.free()
