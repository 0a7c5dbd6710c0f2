# SPDX-License-Identifier: Apache-2.0
"""The TensorRT Python package of this machine, whichever version: 8.6 to 11.x, or TensorRT-RTX.

Enum values move between versions, so nothing here or beside it is a number. What not every
version has is in ``GATED`` and is asked for with ``TensorRt.has`` before it is used. Every other
name of TensorRT that this folder uses must be in all versions: a contract test reads the source
and looks each one up. It follows ``<handle>.module`` and the type names below.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from perception_node.engines.plans.fingerprint import Backend
from perception_node.errors import ConfigError, EngineError, EnvironmentLacks
from perception_node.installing import TENSORRT

if TYPE_CHECKING:
    from perception_node.untyped import TensorRtObject


BACKENDS: tuple[Backend, ...] = get_args(Backend)

OLDEST = (8, 6)
STRONG_TYPING_FROM = (10, 12)  # where the flags of weak typing became deprecated
LINES_SHOWN = 4
LINE_LENGTH = 300

GATED = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "to 10.x; the only kind of network since",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "from 10.0",
    "BuilderFlag.FP16": "to 10.x, where networks need not be strongly typed",
    "BuilderFlag.INT8": "to 10.x, where networks need not be strongly typed",
    "IBuilderConfig.int8_calibrator": "to 10.x; Q/DQ nodes in the model say it all since",
    "IInt8EntropyCalibrator2": "to 10.x",
    "IInt8MinMaxCalibrator": "to 10.x",
    "IProgressMonitor": "from 10.0",
    "IBuilderConfig.progress_monitor": "from 10.0",
}
"""Names that not every supported version has."""

# TensorRT ships no types. These say to a reader, and to the contract test, what a value is.
TensorRtModule: TypeAlias = Any
ILogger: TypeAlias = Any
IProgressMonitor: TypeAlias = Any
IInt8Calibrator: TypeAlias = Any
IHostMemory: TypeAlias = Any
ITimingCache: TypeAlias = Any
Builder: TypeAlias = Any
IBuilderConfig: TypeAlias = Any
INetworkDefinition: TypeAlias = Any
ILayer: TypeAlias = Any
ITensor: TypeAlias = Any
OnnxParser: TypeAlias = Any
ParserError: TypeAlias = Any
Runtime: TypeAlias = Any
ICudaEngine: TypeAlias = Any
IExecutionContext: TypeAlias = Any
EngineInspector: TypeAlias = Any

_MODULES: dict[Backend, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}


class TensorRt:
    """One TensorRT package, with the logger that all its objects share.

    Attributes:
        module: the Python module.
        backend: which product it is.
        version: the full version, such as ``"10.3.0"``.
        log: the last lines that TensorRT logged; clear it before a task that it shall tell of.
        logger: an ``ILogger`` for ``Builder``, ``OnnxParser`` and ``Runtime``, which fills
            ``log``. It must outlive them all, and lives as long as this object.

    """

    def __init__(self, module: TensorRtModule, backend: Backend) -> None:
        """Wrap an imported module; ``load_tensorrt`` is the usual way."""
        self.module = module
        self.backend: Backend = backend
        self.version = str(module.__version__)
        self.log = LogTail()
        self.logger: ILogger = _make_logger(module, self.log)

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version, such as (10, 3)."""
        major, minor = [*map(int, re.findall(r"\d+", self.version)), 0, 0][:2]
        return major, minor

    @property
    def is_strongly_typed(self) -> bool:
        """Whether the ONNX file says the precision, and not the builder's flags.

        NVIDIA's advice where both are possible: flags below TensorRT 10.12, typed from there.
        """
        return not self.has("BuilderFlag.FP16") or self.release >= STRONG_TYPING_FROM

    def has(self, name: str) -> bool:
        """Tell whether this version has a name of ``GATED``, such as ``"BuilderFlag.FP16"``.

        Raises:
            KeyError: the name is not in ``GATED``; add it there.

        """
        GATED[name]
        holder, _, member = name.partition(".")
        found = getattr(self.module, holder, None)
        return found is not None and (not member or hasattr(found, member))

    def make(self, kind: TensorRtObject, *arguments: TensorRtObject) -> TensorRtObject:
        """Return a new ``Builder``, ``OnnxParser`` or ``Runtime``.

        Raises:
            EngineError: TensorRT cannot work here, most often as the driver is too old for it.

        """
        try:
            return kind(*arguments)
        except TypeError as error:  # pybind11: factory function returned nullptr
            msg = (
                f"TensorRT {self.version} cannot start ({self.log.text()}); "
                "does this driver serve its CUDA? nvidia-smi shows which one it serves"
            )
            raise EngineError(msg) from error


class LogTail:
    """The last lines of a log that may tell why something failed."""

    def __init__(self) -> None:
        # apart, as TensorRT logs warnings by the hundred
        self._errors: deque[str] = deque(maxlen=LINES_SHOWN)
        self._warnings: deque[str] = deque(maxlen=LINES_SHOWN)

    def add(self, severity: str, message: str) -> None:
        """Keep one message of the severity so named if it is a warning or worse; any thread."""
        line = " ".join(message.split())[:LINE_LENGTH]
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            self._errors.append(line)
        elif severity == "WARNING":
            self._warnings.append(line)

    def text(self) -> str:
        """Return the last errors, or else the last warnings, oldest first, as one line."""
        return "; ".join(self._errors or self._warnings) or "TensorRT logged no reason"

    def clear(self) -> None:
        """Forget all lines."""
        self._errors.clear()
        self._warnings.clear()


@cache  # one logger per process: TensorRT keeps the first it sees for its own use
def load_tensorrt(backend: Backend = "tensorrt") -> TensorRt:
    """Import TensorRT or TensorRT-RTX and return a handle to it, the same at every call.

    Raises:
        EnvironmentLacks: the package is not here, is damaged or too old; says what to install.
        ConfigError: there is no such backend.

    """
    if backend not in BACKENDS:
        msg = f"backend is {backend!r}; must be one of: {', '.join(BACKENDS)}"
        raise ConfigError(msg)
    trt = TensorRt(_import(backend), backend)
    if backend == "tensorrt" and trt.release < OLDEST:
        problem = f"TensorRT {trt.version} is older than 8.6"
        raise EnvironmentLacks(problem, "install JetPack 6 or newer")
    return trt


def _import(backend: Backend) -> TensorRtModule:
    """Return the first module of a backend that is installed."""
    problem = ""
    for name in _MODULES[backend]:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            problem = problem or str(error)
        except (ImportError, OSError, RuntimeError) as error:  # a library of it is missing
            problem = f"{name} cannot be imported: {error}"
            break
    raise EnvironmentLacks(problem, TENSORRT[backend])


def _make_logger(module: TensorRtModule, tail: LogTail) -> ILogger:
    class Logger(module.ILogger):  # type: ignore[misc] # known only when TensorRT is imported
        """Passes on what TensorRT logs, from whichever thread."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)  # without it the interpreter crashes

        def log(self, severity: TensorRtObject, message: str) -> None:
            tail.add(severity.name, message)

    return Logger()
