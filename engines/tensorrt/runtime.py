# SPDX-License-Identifier: Apache-2.0
"""Run a plan with TensorRT: the camera's bytes go in, logits come out, the rest is on the GPU.

A frame is one chain of work on one stream: upload, preprocessing kernel, network, download. After
a few equal frames the chain is recorded as a CUDA graph and launched with a single call.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from perception_node.engines.base import Engine
from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.engines.tensorrt.cuda.context import keep_for_ever
from perception_node.engines.tensorrt.gpu_preprocessor import GpuPreprocessor
from perception_node.engines.tensorrt.graph_replay import GraphReplay
from perception_node.engines.tensorrt.network import Network
from perception_node.errors import EngineError, EngineLost, EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

    from perception_node.config.sections import Precision
    from perception_node.engines.tensorrt.api import TensorRt
    from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
    from perception_node.model.bundle import ModelBundle, Preprocessing
    from perception_node.vision.frame import Frame

PRODUCTS = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


class TensorRtEngine(Engine):
    """One plan with its buffers, on the thread that made it: it also runs and closes it.

    ``preprocessor`` prepares frames on the GPU. What is written into ``input`` is used by an
    ``infer`` that no frame was prepared for.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        plan: bytes,
        trt: TensorRt,
        cuda: PyCuda,
        *,
        precision: Precision,
        debug: bool = False,
    ) -> None:
        """Load a plan; every buffer but the one for frames is made here.

        The caller trusts the plan's bytes, which can be code. ``cuda`` was made on this thread and
        belongs to the engine from here on, also if this fails. ``debug`` fills the output with NaN
        on the GPU before every run, and fails if one is left.

        Raises:
            EngineError: the plan cannot be loaded, is not one of this bundle, or does not fit
                into the memory.
            EngineLost: the GPU failed for good.

        """
        self._bundle = bundle
        self._trt = trt
        self._cuda = cuda
        self._precision = precision
        self._debug = debug
        self._thread = threading.get_ident()
        self._is_open = True
        self._is_lost = False
        self._staged: GpuPreprocessor | None = None
        self._without_kernel = ""
        self._parts = ExitStack()  # frees in the reverse order of making
        self._parts.callback(cuda.close)
        try:
            self._make(plan)
        except BaseException as error:
            self._is_lost = isinstance(error, EngineLost)
            self._free()
            raise
        self._describe()

    def _make(self, plan: bytes) -> None:
        size, classes = self._bundle.manifest.input, self._bundle.manifest.output.classes
        # The network's input lies in the GPU's own memory: it is read more than once.
        self._input, self.input = self._buffer((1, 3, size.height, size.width), mapped=False)
        self._output, self.output = self._buffer((1, classes), mapped=None)
        self._network = Network(self._trt, plan, self._bundle)
        self._parts.callback(self._network.free)
        self._network.bind(self._input.address, self._output.address)
        self._replay = GraphReplay(self._cuda, self._enqueue, self.output)
        self._parts.callback(self._replay.forget)

    def _buffer(
        self, shape: tuple[int, ...], *, mapped: bool | None
    ) -> tuple[SharedBuffer, NDArray[np.float32]]:
        floats = int(np.prod(shape))
        buffer = SharedBuffer(self._cuda, 4 * floats, mapped=mapped)
        self._parts.callback(buffer.free)
        return buffer, buffer.host.view(np.float32).reshape(shape)

    def preprocessor(self, preprocessing: Preprocessing) -> Callable[[Frame], None]:
        """Return what copies a frame's bytes to the GPU, where ``infer`` prepares them.

        Where the kernel cannot be compiled it is the CPU's, and ``description`` says so.

        Raises:
            EngineLost: the GPU failed for good.

        """
        shape = self.input.shape[2], self.input.shape[3]
        try:
            with self._noticing_loss():
                gpu = GpuPreprocessor(self._cuda, preprocessing, shape, self._input.address)
        except EngineLost:
            raise
        except (EnvironmentLacks, EngineError) as error:
            self._without_kernel = str(error)
            self._describe()
            return super().preprocessor(preprocessing)
        self._parts.callback(gpu.free)

        def stage(frame: Frame) -> None:
            with self._noticing_loss():
                gpu.stage(frame)
            self._staged = gpu

        return stage

    def infer(self) -> None:
        """Run the model on the frame that was prepared, or else on ``input``.

        Raises:
            EngineError: CUDA or TensorRT reported a failure; of the latter with what it logged.
            EngineLost: the same, and it will fail from now on.

        """
        self._check_thread()
        if self._is_lost:
            msg = "the GPU failed before and its context is lost; restart the process to use it"
            raise EngineLost(msg)
        was_recorded = self._replay.is_recorded
        try:
            with self._noticing_loss():
                self._run()
        finally:
            self._staged = None
        if self._debug and not np.isfinite(self.output).all():
            msg = "the network left NaN in its output: it was not run, or its weights overflow"
            raise EngineError(msg)
        if self._replay.is_recorded is not was_recorded:
            self._describe()

    def close(self) -> None:
        """Free everything, on the thread that made the engine; of a lost one, nothing."""
        if not self._is_open:
            return
        self._check_thread()
        # Page-locked memory goes away; a late reader gets a copy instead of a crash.
        self.input, self.output = self.input.copy(), self.output.copy()
        self._free()

    def _run(self) -> None:
        if self._debug:
            self.output.fill(np.nan)
        key: Hashable = self._staged.key if self._staged else None
        self._replay.run(key)
        self._cuda.synchronize()

    def _enqueue(self) -> None:
        if self._debug:
            self._output.upload()
        if self._staged is not None:
            self._staged.enqueue()
        else:
            self._input.upload()
        self._network.enqueue(self._cuda.stream)
        self._output.download()

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """Find out whether a failure is one that stays, and remember it."""
        try:
            yield
        except EngineLost:
            self._is_lost = True
            raise
        except EngineError as error:
            try:
                self._cuda.check()
            except EngineLost as lost:
                self._is_lost = True
                msg = f"{error}; {lost}"
                raise EngineLost(msg) from error
            raise

    def _free(self) -> None:
        self._is_open = False
        if self._is_lost:
            keep_for_ever(self._parts.pop_all())
            self._cuda.abandon()
        else:
            self._parts.close()

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            msg = "a TensorRT engine must be used and closed on the thread that made it"
            raise RuntimeError(msg)

    def _describe(self) -> None:
        gpu = self._cuda.gpu
        words = [
            f"{PRODUCTS[self._trt.backend]} {self._trt.version}",
            f"{gpu.name} ({gpu.compute_capability})",
            self._precision,
        ]
        if self._replay.is_recorded:
            words.append("CUDA graph")
        elif self._replay.problem:
            words.append(f"no CUDA graph: {self._replay.problem}")
        if self._without_kernel:
            words.append(f"preprocessing on the CPU: {self._without_kernel}")
        self.description = ", ".join(words)
