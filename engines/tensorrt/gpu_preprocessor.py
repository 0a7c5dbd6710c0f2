# SPDX-License-Identifier: Apache-2.0
"""A frame's own bytes go to the GPU, and a kernel there makes the network's input of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.engines.tensorrt.cuda.kernel import (
    KERNEL_NAME,
    READABLE,
    FrameLayout,
    kernel_source,
    plan_launch,
)
from perception_node.vision.frame import Frame, Unpacker

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.kernel import Launch
    from perception_node.engines.tensorrt.cuda.pycuda_driver import CompiledKernel, PyCuda
    from perception_node.model.bundle import Preprocessing


class GpuPreprocessor:
    """Prepares frames in two steps: ``stage`` copies the bytes, ``enqueue`` does the rest.

    Encodings that the kernel does not read (Bayer, nv24, i420, yv12) are unpacked on the CPU
    first.
    """

    def __init__(
        self, cuda: PyCuda, preprocessing: Preprocessing, size: tuple[int, int], target: int
    ) -> None:
        """Compile the kernel.

        ``target`` is the address of the network's input on the GPU, float32 (1, 3, height, width);
        ``size`` is its height and width.

        Raises:
            EnvironmentLacks: there is no compiler for the kernel.
            EngineError: the kernel cannot be compiled.

        """
        self._cuda = cuda
        self._preprocessing = preprocessing
        self._size = size
        self._target = target
        self._kernel: CompiledKernel | None = cuda.compile(kernel_source(), KERNEL_NAME)
        self._unpacker = Unpacker()
        self._layout: FrameLayout | None = None
        self._launch: Launch | None = None
        self._staging: SharedBuffer | None = None
        self._pixels: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.key: Hashable = None
        """Equal for frames that the same graph can prepare."""

    def stage(self, frame: Frame) -> None:
        """Copy a frame's bytes to where the GPU finds them.

        Raises:
            EngineError: there is no memory for a frame of this size.

        """
        if frame.encoding not in READABLE:
            pixels, _ = self._unpacker.unpack(frame)  # becomes BGR
            frame = Frame.from_bgr(pixels)
        layout = FrameLayout.of(frame)
        if layout != self._layout:
            self._prepare(layout, frame.pixels.shape)
        np.copyto(self._pixels, frame.pixels)

    def enqueue(self) -> None:
        """Put upload and kernel on the stream, for the frame that was staged last.

        Raises:
            EngineError: CUDA reported a failure.

        """
        if self._kernel is None or self._staging is None or self._launch is None:
            msg = "a frame must be staged first"
            raise RuntimeError(msg)
        launch, staging = self._launch, self._staging
        staging.upload(self._pixels.size)
        self._kernel.launch(
            launch.grid, launch.block, launch.parameters, staging.address, self._target
        )

    def free(self) -> None:
        """Give back memory and kernel."""
        self._kernel = None
        self._free_staging()

    def _free_staging(self) -> None:
        self._layout = self._launch = None
        self._pixels = np.empty(0, np.uint8)
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.free()

    def _prepare(self, layout: FrameLayout, shape: tuple[int, ...]) -> None:
        """Get ready for frames of another layout; the memory grows if it must."""
        if self._staging is None or self._staging.host.size < layout.size:
            self._free_staging()
            self._staging = SharedBuffer(self._cuda, layout.size)
        self._launch = plan_launch(self._preprocessing, layout, self._size)
        self._pixels = self._staging.host[: layout.size].reshape(shape)
        self._layout = layout
        self.key = (id(self), layout, self._staging.address)
