# SPDX-License-Identifier: Apache-2.0
"""TensorRT's runtime without TensorRT: a plan is an ONNX model, ONNX Runtime runs it.

Only what a plan that is loaded and run needs; building is tested with the real TensorRT for RTX.
Like the real one it reports failures by returning None or False and logging the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from perception_node.engines.tensorrt.api import TensorRt
from perception_node.engines.tensorrt.runtime import TensorRtEngine
from tests.standin_cuda import STREAMS, StandinCuda

if TYPE_CHECKING:
    from collections.abc import Callable

DataType = Enum("DataType", ["FLOAT", "HALF", "INT8"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
TensorFormat = Enum("TensorFormat", ["LINEAR", "CHW4"])
Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])
TYPES = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}


class ILogger:
    Severity = Severity

    def __init__(self):
        pass


def _put(stream, job):
    """Put work on a stream of a ``StandinCuda``."""
    STREAMS[stream].put(job)


@dataclass(frozen=True)
class Behaviour:
    """How this TensorRT differs from one that works.

    Attributes:
        before: called by every run; a result other than None is returned instead of running.
        has_context: whether a plan can be run at all.
        layout: of all tensors.
        put: puts work on a stream, given as its handle.

    """

    before: Callable[[], bool | None] = lambda: None
    has_context: bool = True
    layout: TensorFormat = TensorFormat.LINEAR
    put: Callable[[int, Callable[[], None]], None] = _put


class Runtime:
    def __init__(self, behaviour, logger):
        self.behaviour = behaviour
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 - whatever ONNX Runtime has against it
            self.logger.log(Severity.ERROR, "magicTagRead == kMAGIC_TAG failed")
            return None
        return CudaEngine(self, session)


class CudaEngine:
    """The names of ``ICudaEngine`` that the runtime uses."""

    def __init__(self, runtime, session):
        self.runtime = runtime  # must outlive the engine
        self.session = session
        self._inputs = {tensor.name: tensor for tensor in session.get_inputs()}
        self._outputs = {tensor.name: tensor for tensor in session.get_outputs()}
        self._tensors = {**self._inputs, **self._outputs}

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return TYPES[self._tensors[name].type]

    def get_tensor_shape(self, name):
        return tuple(self._tensors[name].shape)

    def get_tensor_format(self, name):
        assert name in self._tensors
        return self.runtime.behaviour.layout

    def create_execution_context(self):
        if not self.runtime.behaviour.has_context:
            self.runtime.logger.log(Severity.ERROR, "Cuda Runtime (out of memory)")
            return None
        return ExecutionContext(self)


class ExecutionContext:
    """The names of ``IExecutionContext`` that the runtime uses."""

    def __init__(self, engine):
        self._engine = engine  # must outlive the context
        self._behaviour = engine.runtime.behaviour
        self._binding = engine.session.io_binding()
        self._bound = set()

    def set_tensor_address(self, name, address):
        assert type(address) is int
        if not address:
            self._engine.runtime.logger.log(Severity.ERROR, "address is null")
            return False
        is_input = self._engine.get_tensor_mode(name) is TensorIOMode.INPUT
        bind = self._binding.bind_input if is_input else self._binding.bind_output
        bind(name, "cpu", 0, np.float32, self._engine.get_tensor_shape(name), address)
        self._bound.add(name)
        return True

    def execute_async_v3(self, stream):
        assert len(self._bound) == self._engine.num_io_tensors
        answer = self._behaviour.before()
        if answer is not None:
            self._engine.runtime.logger.log(Severity.ERROR, "enqueueV3: a tactic failed")
            return answer
        self._behaviour.put(stream, self._run)
        return True

    def _run(self):
        self._engine.session.run_with_iobinding(self._binding)


def standin_tensorrt(version="10.3.0", **behaviour) -> TensorRt:
    """Return a handle to a TensorRT that runs ONNX models, with the fields of ``Behaviour``."""
    module = SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        Runtime=partial(Runtime, Behaviour(**behaviour)),
        DataType=DataType,
        TensorIOMode=TensorIOMode,
        TensorFormat=TensorFormat,
    )
    return TensorRt(module, "tensorrt")


def standin_engine(bundle, cuda=None, trt=None, **options) -> TensorRtEngine:
    """Return the TensorRT engine of a bundle, with its ONNX model as the plan."""
    return TensorRtEngine(
        bundle,
        bundle.read(),
        trt or standin_tensorrt(),
        cuda or StandinCuda(),
        precision="fp32",
        **options,
    )
