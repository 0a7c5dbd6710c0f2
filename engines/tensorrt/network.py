# SPDX-License-Identifier: Apache-2.0
"""A plan that TensorRT loaded, checked against the bundle, bound to fixed addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.engines.tensorrt.api import (
        ICudaEngine,
        IExecutionContext,
        Runtime,
        TensorRt,
    )
    from perception_node.model.bundle import ModelBundle
    from perception_node.untyped import TensorRtObject


class Network:
    """One execution context of one plan.

    TensorRT reports failures by returning None or False; each is checked here, and the error
    carries the last lines that TensorRT logged.
    """

    def __init__(self, trt: TensorRt, plan: bytes, bundle: ModelBundle) -> None:
        """Load a plan, whose bytes the caller trusts, as they can be code, in the CUDA context.

        Raises:
            EngineError: TensorRT cannot load the plan, or it is not one of this bundle.

        """
        trt.log.clear()
        self._trt = trt
        self._names = bundle.manifest.input.name, bundle.manifest.output.name
        self._runtime: Runtime = trt.make(trt.module.Runtime, trt.logger)
        self._engine: ICudaEngine = self._runtime.deserialize_cuda_engine(plan)
        self._context: IExecutionContext = None
        if self._engine is None:
            raise self._failure(f"cannot load the plan of {bundle.path}; build it again")
        problem = _compare_tensors(trt, self._engine, bundle)
        if not problem:
            self._context = self._engine.create_execution_context()
        if self._context is None:
            self.free()  # now, while the CUDA context is there: an error keeps what it refers to
            if problem:
                raise EngineError(problem)
            raise self._failure(f"cannot run the plan of {bundle.path}; is there enough memory?")

    def bind(self, input_address: int, output_address: int) -> None:
        """Say where the input and the output lie on the GPU, for all runs from now on.

        Raises:
            EngineError: TensorRT refused an address.

        """
        for name, address in zip(self._names, (input_address, output_address), strict=True):
            if not self._context.set_tensor_address(name, address):
                raise self._failure(f"refused the address of {name}")

    def enqueue(self, stream: int) -> None:
        """Put one run on a stream.

        Raises:
            EngineError: TensorRT could not.

        """
        if not self._context.execute_async_v3(stream):
            raise self._failure("could not start the network")

    def free(self) -> None:
        """Free context, engine and runtime, in this order, in the current CUDA context."""
        self._context = self._engine = self._runtime = None

    def _failure(self, what: str) -> EngineError:
        return EngineError(f"TensorRT {self._trt.version} {what} ({self._trt.log.text()})")


def _compare_tensors(trt: TensorRt, engine: ICudaEngine, bundle: ModelBundle) -> str:
    """Say where the plan's tensors are not the bundle's: these would read or write elsewhere."""
    size, output = bundle.manifest.input, bundle.manifest.output
    mode, layout = trt.module.TensorIOMode, trt.module.TensorFormat.LINEAR
    dtype = trt.module.DataType.FLOAT
    expected = {
        _describe(size.name, mode.INPUT, (1, 3, size.height, size.width), dtype, layout),
        _describe(output.name, mode.OUTPUT, (1, output.classes), dtype, layout),
    }
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        _describe(
            name,
            engine.get_tensor_mode(name),
            engine.get_tensor_shape(name),
            engine.get_tensor_dtype(name),
            engine.get_tensor_format(name),
        )
        for name in names
    }
    if found == expected:
        return ""
    return (
        f"the plan has {_join(found - expected)} where the bundle {bundle.path} has "
        f"{_join(expected - found)}; build it again"
    )


def _describe(
    name: str,
    mode: TensorRtObject,
    shape: Iterable[int],
    dtype: TensorRtObject,
    layout: TensorRtObject,
) -> str:
    """Return in words all that matters of an input or output; no two have the same words."""
    return f"{mode.name.lower()} {name} {dtype.name} {list(shape)} {layout.name}"


def _join(tensors: set[str]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"
