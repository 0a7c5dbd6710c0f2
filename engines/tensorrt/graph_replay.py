# SPDX-License-Identifier: Apache-2.0
"""Repeated work on the GPU is recorded as a CUDA graph: one call a frame, not one per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.graph import CudaGraph
    from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda

RECORD_AFTER = 3  # equal runs; photos of many sizes would record for nothing


class GraphReplay:
    """Runs the same work again and again, as a graph once it has proved to stay the same.

    Attributes:
        problem: why there is no graph and never will be; empty as long as there may be one.

    """

    def __init__(
        self, cuda: PyCuda, work: Callable[[], None], output: NDArray[np.float32]
    ) -> None:
        """Prepare to run ``work``, whose result is in ``output`` once the stream is done."""
        self._cuda = cuda
        self._work = work
        self._output = output
        self._key: Hashable = None
        self._runs = 0
        self._graph: CudaGraph | None = None
        self.problem = "" if cuda.can_capture else "the driver has no CUDA graphs"

    @property
    def is_recorded(self) -> bool:
        """Whether the last run was one of a graph."""
        return self._graph is not None

    def run(self, key: Hashable) -> None:
        """Put the work on the stream.

        Args:
            key: everything that a graph would keep: addresses, sizes, arguments. A graph is
                used only for the key it was recorded with.

        Raises:
            EngineError: CUDA or TensorRT reported a failure.

        """
        if key != self._key:
            self.forget()
            self._key = key
        if self._graph is None and self._runs >= RECORD_AFTER and not self.problem:
            self._record()
        if self._graph is not None:
            self._graph.launch()
            return
        self._work()
        self._runs += 1

    def forget(self) -> None:
        """Free the graph; the work has changed."""
        graph, self._graph = self._graph, None
        self._runs = 0
        if graph is not None:
            graph.free()

    def _record(self) -> None:
        """Record the work, and keep the graph only if it does what the work does.

        What cannot be recorded runs as before.
        """
        try:
            self._graph = self._cuda.capture(self._work)
        except EngineError as error:
            self._cuda.check()  # a lost context is no missing feature
            self.problem = str(error)
            return
        self._work()
        if not np.array_equal(self._result(), self._result(self._graph)):
            self.problem = "the CUDA graph gave another result"
            self.forget()

    def _result(self, graph: CudaGraph | None = None) -> NDArray[np.float32]:
        """Return what is in the output when the stream, and the graph if given, is done."""
        if graph is not None:
            self._output.fill(np.nan)
            graph.launch()
        self._cuda.synchronize()
        return self._output.copy()
