# SPDX-License-Identifier: Apache-2.0
"""A network of one kernel in place of TensorRT, for GPU machines that do not have it.

It has the names of TensorRT's runtime that the engine uses; a plan is the two sizes. Every output
is the mean of some of the input's values, so that a wrong input or address shows.
"""

from __future__ import annotations

import struct
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from perception_node.engines.tensorrt.api import TensorRt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
    from perception_node.model.bundle import ModelBundle

KERNEL_NAME = "stand_in_network"
TAPS = 512
BLOCK = 128
SOURCE = """
struct Sizes { int inputs; int classes; };

extern "C" __global__ void stand_in_network(Sizes sizes, const float *input, float *output) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.classes) return;
    float sum = 0.0f;
    for (int tap = 0; tap < 512; ++tap) {
        sum += input[(131 * index + 293 * tap) % sizes.inputs];
    }
    output[index] = sum / 512.0f;
}
"""


def stand_in_network(bundle: ModelBundle, cuda: PyCuda) -> TensorRt:
    """Return what takes the place of TensorRT for a model of the bundle's sizes."""

    class Logger:
        def __init__(self) -> None:
            """Do nothing, as the real one."""

    module = SimpleNamespace(
        __version__="none: stand-in network",
        ILogger=Logger,
        Runtime=lambda _: _Runtime(bundle, cuda),
        TensorIOMode=_Mode,
        DataType=_Type,
        TensorFormat=_Format,
    )
    return TensorRt(module, "tensorrt")


def stand_in_output(values: NDArray[np.float32], classes: int) -> NDArray[np.float64]:
    """Return what the network must give for an input, float64 of shape (1, classes)."""
    index, tap = np.ogrid[:classes, :TAPS]
    flat = values.ravel().astype(np.float64)
    return np.asarray(flat[(131 * index + 293 * tap) % flat.size].mean(axis=1)[np.newaxis])


_Mode = Enum("_Mode", ["INPUT", "OUTPUT"])
_Type = Enum("_Type", ["FLOAT"])
_Format = Enum("_Format", ["LINEAR"])


class _Runtime:
    """Runtime, engine and execution context in one."""

    num_io_tensors = 2

    def __init__(self, bundle: ModelBundle, cuda: PyCuda) -> None:
        size, output = bundle.manifest.input, bundle.manifest.output
        self._shapes = {
            size.name: (1, 3, size.height, size.width),
            output.name: (1, output.classes),
        }
        self._addresses: dict[str, int] = {}
        self._names = [size.name, output.name]
        self._kernel = cuda.compile(SOURCE, KERNEL_NAME)

    def deserialize_cuda_engine(self, _plan: bytes) -> _Runtime:
        return self

    def create_execution_context(self) -> _Runtime:
        return self

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Enum:
        return _Mode.INPUT if name == self._names[0] else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def get_tensor_dtype(self, _name: str) -> Enum:
        return _Type.FLOAT

    def get_tensor_format(self, _name: str) -> Enum:
        return _Format.LINEAR

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        source, target = (self._addresses[name] for name in self._names)
        inputs, classes = (int(np.prod(self._shapes[name])) for name in self._names)
        blocks = -(-classes // BLOCK)
        sizes = struct.pack("ii", inputs, classes)
        self._kernel.launch((blocks, 1), (BLOCK, 1, 1), sizes, source, target)
        return True
