# SPDX-License-Identifier: Apache-2.0
"""Run a bundle's ONNX model on the CPU with ONNX Runtime, without a copy per frame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from perception_node.engines.base import Engine
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import EngineError, ModelFormatError
from perception_node.model.bundle import INT8_ON_CPU, MODEL, MODEL_FILES

if TYPE_CHECKING:
    from perception_node.model.bundle import ModelBundle
    from perception_node.untyped import OrtObject

MAX_DEFAULT_THREADS = 4
ARITHMETIC = {MODEL: "float32", MODEL_FILES["fp16"]: "float16", INT8_ON_CPU: "int8"}


def default_threads() -> int:
    """Return how many threads inference gets when nobody says: half the cores, 1 to 4.

    The other half is for the camera, the middleware and the rest of the robot. On two cores
    a single thread is also the only setting whose latency is stable.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min(MAX_DEFAULT_THREADS, cores // 2))


class OnnxRuntimeEngine(Engine):
    """One ONNX Runtime session with its input and output bound to fixed arrays."""

    def __init__(self, bundle: ModelBundle, threads: int = 0, model: str = MODEL) -> None:
        """Load one model of the bundle.

        Args:
            bundle: supplies the model's bytes, shapes and tensor names.
            threads: inference threads; 0 takes ``default_threads()``.
            model: which of the bundle's files. ``model.int8.onnx``, which is TensorRT's, is
                computed in float32 around its quantisers: what TensorRT computes, slowly.

        Raises:
            ModelFormatError: the file is no model ONNX Runtime can load, or its input and
                output are not what the bundle says.
            ModelIntegrityError: the file is not the one the bundle was made with.

        """
        self._threads = threads or default_threads()
        self._session = _load_session(bundle, model, self._threads)
        _check_tensors(bundle, model, self._session)
        size, output = bundle.manifest.input, bundle.manifest.output
        self.input = np.zeros((1, 3, size.height, size.width), np.float32)
        self.output = np.zeros((1, output.classes), np.float32)
        self._run_options = ort.RunOptions()
        self._binding: Any = self._bind(size.name, output.name)
        provider = self._session.get_providers()[0]  # the one in use, not the one asked for
        arithmetic = ARITHMETIC.get(model, "int8 emulated in float32")
        self.description = (
            f"ONNX Runtime {ort.__version__}, {provider}, {arithmetic}, {self._threads} thread(s)"
        )

    def infer(self) -> None:
        """Run the model on ``input``; see ``Engine.infer``."""
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:
            msg = f"ONNX Runtime failed: {_first_line(error)}"
            raise EngineError(msg) from error

    def interrupt(self) -> None:
        """Let ``infer()`` fail before its next operator; see ``Engine.interrupt``."""
        self._run_options.terminate = True

    def close(self) -> None:
        """Free the session."""
        self._binding = None
        self._session = None

    def _bind(self, input_name: str, output_name: str) -> OrtObject:
        """Point the session at our arrays; they must live as long as the binding."""
        binding = self._session.io_binding()
        for bind, name, array in (
            (binding.bind_input, input_name, self.input),
            (binding.bind_output, output_name, self.output),
        ):
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


def _load_session(bundle: ModelBundle, model: str, threads: int) -> OrtObject:
    """Load from checked bytes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread burns a core that the camera needs, for 2 to 3 ms of latency.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if model not in ARITHMETIC:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    content, size = bundle.read(model), bundle.manifest.input
    input_bytes = 3 * size.height * size.width * np.dtype(np.float32).itemsize
    try:
        return open_session(content, options, input_bytes=input_bytes)
    except Exception as error:
        problem = f"ONNX Runtime cannot load it: {_first_line(error)}"
        raise ModelFormatError(bundle.path / model, problem) from error


def _check_tensors(bundle: ModelBundle, model: str, session: OrtObject) -> None:
    size, output = bundle.manifest.input, bundle.manifest.output
    for kind, found, name, shape in (
        ("input", session.get_inputs(), size.name, [1, 3, size.height, size.width]),
        ("output", session.get_outputs(), output.name, [1, output.classes]),
    ):
        expected = f"{name} float32 {shape}"
        described = ", ".join(f"{t.name} {_type_name(t.type)} {t.shape}" for t in found)
        if len(found) != 1 or not _fits(found[0], name, shape):
            problem = f"its {kind} must be {expected}, found {described or 'none'}"
            raise ModelFormatError(bundle.path / model, problem)


def _fits(tensor: OrtObject, name: str, shape: list[int]) -> bool:
    """Compare a tensor with what the bundle says; a dynamic batch (a name or None) is allowed."""
    found = list(tensor.shape)
    if len(found) == len(shape) and not isinstance(found[0], int):
        found[0] = 1
    return (tensor.name, tensor.type, found) == (name, "tensor(float)", shape)


def _type_name(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
