# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs, which PyCUDA lacks: the driver's own functions, called through ctypes.

Thread-local capture, because in the global mode another thread that frees memory breaks the
recording. A graph without nodes is refused: it would leave the old output in place, silently.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from perception_node.engines.tensorrt.cuda.gpu import DRIVER
from perception_node.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTURE_MODE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL of cuda.h
_HANDLE = ctypes.c_void_p
_HANDLES = ctypes.POINTER(_HANDLE)
FUNCTIONS = {  # prototypes of cuda.h, CUDA 11.4 and newer
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _HANDLES),
    "cuGraphGetNodes": (_HANDLE, _HANDLES, ctypes.POINTER(ctypes.c_size_t)),
    "cuGraphInstantiateWithFlags": (_HANDLES, _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
}


class GraphDriver:
    """The graph functions of the driver.

    Attributes:
        is_complete: this driver has all of them.

    """

    def __init__(self, library: str = DRIVER) -> None:
        """Look the functions up in the driver that is loaded, or load it.

        Raises:
            EngineError: there is no driver.

        """
        try:
            self._driver = ctypes.CDLL(library)
        except OSError as error:
            msg = f"the NVIDIA driver cannot be loaded: {error}"
            raise EngineError(msg) from error
        self.is_complete = all(hasattr(self._driver, name) for name in FUNCTIONS)
        if self.is_complete:
            for name, arguments in FUNCTIONS.items():
                getattr(self._driver, name).argtypes = arguments

    def capture(self, stream: int, work: Callable[[], None]) -> CudaGraph:
        """Record what ``work`` puts on ``stream``; nothing of it runs yet.

        Raises:
            EngineError: something in it cannot be recorded, or it was nothing.

        """
        self.call("cuStreamBeginCapture_v2", stream, CAPTURE_MODE_THREAD_LOCAL)
        graph = _HANDLE()
        try:
            work()
        except BaseException:  # the stream must leave the recording in any case
            self._driver.cuStreamEndCapture(stream, ctypes.byref(graph))
            if graph.value:
                self._driver.cuGraphDestroy(graph)
            raise
        self.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            return self._instantiate(graph, stream)
        finally:
            self._driver.cuGraphDestroy(graph)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the driver.

        Raises:
            EngineError: it reported a failure.

        """
        code = getattr(self._driver, function)(*arguments)
        if code != 0:
            msg = f"{function} failed: {self._describe(code)}"
            raise EngineError(msg)

    def _instantiate(self, graph: ctypes.c_void_p, stream: int) -> CudaGraph:
        count = ctypes.c_size_t()
        self.call("cuGraphGetNodes", graph, None, ctypes.byref(count))
        if count.value == 0:
            msg = "the CUDA graph is empty; it would repeat the last result for ever"
            raise EngineError(msg)
        executable = _HANDLE()
        self.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        return CudaGraph(self, executable, stream, count.value)

    def _describe(self, code: int) -> str:
        text = ctypes.c_char_p()
        if self._driver.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value:
            return f"{text.value.decode(errors='replace')} ({code})"
        return f"error {code}"


class CudaGraph:
    """A recorded piece of work that can be launched again and again.

    Attributes:
        nodes: number of its copies and kernels.

    """

    def __init__(
        self, driver: GraphDriver, executable: ctypes.c_void_p, stream: int, nodes: int
    ) -> None:
        self.nodes = nodes
        self._driver = driver
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """Put all of it on the stream.

        Raises:
            EngineError: the driver reported a failure.

        """
        self._driver.call("cuGraphLaunch", self._executable, self._stream)

    def free(self) -> None:
        """Give back what the graph holds."""
        self._driver.call("cuGraphExecDestroy", self._executable)
