# SPDX-License-Identifier: Apache-2.0
"""From a bundle to an accepted plan in the plan store, for the command line and the node."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.engines.plans import (
    BuildOptions,
    NewPlan,
    PlanFingerprint,
    PlanStore,
    StoredPlan,
)
from perception_node.engines.plans.fingerprint import DEFAULT_OPTIONS
from perception_node.engines.tensorrt.acceptance import accept_plan
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.calibration_cache import CALIBRATION_CACHE
from perception_node.engines.tensorrt.calibrator import Calibrator, check_has_calibrators
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
from perception_node.engines.tensorrt.inspection import (
    check_precision,
    has_int8_products,
    inspect_plan,
    layers_of_engine,
    precision_table,
    weighted_layers,
)
from perception_node.engines.tensorrt.machine import machine_facts
from perception_node.engines.tensorrt.progress import ProgressReporter, make_monitor
from perception_node.engines.tensorrt.runtime import TensorRtEngine
from perception_node.errors import EngineBuildError, EnvironmentLacks
from perception_node.installing import MissingPackage
from perception_node.model.accuracy import require_accurate
from perception_node.model.bundle import MODEL, MODEL_FILES
from perception_node.model.onnx_file import QUANTIZERS, look_through

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perception_node.config.sections import Precision
    from perception_node.engines.base import Engine
    from perception_node.engines.plans.fingerprint import Backend
    from perception_node.engines.tensorrt.api import TensorRt
    from perception_node.engines.tensorrt.builder import BuiltPlan
    from perception_node.engines.tensorrt.cuda.gpu import Gpu
    from perception_node.engines.tensorrt.progress import BuildProgress
    from perception_node.model.bundle import ModelBundle

NO_GPU = "no NVIDIA GPU here"
WAITING = "waiting for another process that builds this plan"


def ensure_plan(  # noqa: PLR0913 - the first five say what to build
    bundle: ModelBundle,
    precision: Precision,
    backend: Backend,
    store: PlanStore,
    options: BuildOptions = DEFAULT_OPTIONS,
    *,
    report: Callable[[BuildProgress], None] | None = None,
    cancel: Event | None = None,
    force: bool = False,
    allow_ungated: bool = False,
    classic: bool = False,
) -> StoredPlan:
    """Return a bundle's plan from the store; build, check and store it where there is none.

    TensorRT works on the calling thread, for seconds to many minutes, without Python's lock.
    ``tensorrt-rtx`` builds on machines without a GPU too; such a plan shows that the model can
    be built, is not accepted and is never run.

    Args:
        bundle: the model.
        precision: fp16 is made from ``model.onnx`` if the bundle has no file of its own; int8
            needs ``model.int8.onnx``.
        backend: which TensorRT.
        store: where plans are kept.
        options: what the builder is told.
        report: told what is being done.
        cancel: set from another thread, it ends the build as soon as TensorRT asks.
        force: build even if the store has the plan.
        allow_ungated: build an int8 model that has not passed the accuracy gate.
        classic: int8 of ``model.onnx`` and ``calibration.cache``, for TensorRT up to 10.x; the
            accuracy gate of ``model.int8.onnx`` holds, which has the same scales.

    Raises:
        UngatedModel: it has not, and it may not be built without.
        EngineBuildError: no plan was made, or not one that does what the model does; or cancelled.
        CalibrationError: the calibration cache is not one of this model.
        EnvironmentLacks: TensorRT, PyCUDA or a GPU is missing here.
        EngineError: TensorRT cannot work here, or the plan could not be run.
        PlanError: the store cannot be used.
        ModelError: the bundle cannot be used.

    """
    require_gate(bundle, precision, allow_ungated=allow_ungated)
    trt = load_tensorrt(backend)
    if classic:
        check_has_calibrators(trt)
    gpu = find_gpu()
    if gpu is None and backend == "tensorrt":
        msg = f"{NO_GPU}: TensorRT builds a plan on the GPU that will run it"
        raise EnvironmentLacks(msg)
    reporter = ProgressReporter(report or _ignore, cancel or Event())
    build = _Build(bundle, precision, trt, gpu, options, reporter, store, classic)
    return store.build_once(
        bundle.manifest.name, build.fingerprint, build, on_wait=build.wait, force=force
    )


def fingerprint_of(
    bundle: ModelBundle,
    precision: Precision,
    trt: TensorRt,
    gpu: Gpu | None,
    options: BuildOptions = DEFAULT_OPTIONS,
    *,
    classic: bool = False,
) -> PlanFingerprint:
    """Return what binds a plan of this bundle on this machine, to find it without building.

    Raises:
        EngineBuildError: the bundle has no model for int8, or no cache for the classic one.

    """
    size, output = bundle.manifest.input, bundle.manifest.output
    return PlanFingerprint(
        onnx_sha256=bundle.files[model_file(bundle, precision, classic=classic)],
        precision=precision,
        # elsewhere the scales are in the ONNX file
        calibration_sha256=bundle.files[CALIBRATION_CACHE] if classic else "",
        input_shape=(1, 3, size.height, size.width),
        output_shape=(1, output.classes),
        backend=trt.backend,
        tensorrt=trt.version,
        options=options,
        **machine_facts(gpu),
    )


def require_gate(bundle: ModelBundle, precision: Precision, *, allow_ungated: bool) -> None:
    """Refuse an int8 model that has not passed the accuracy gate.

    Raises:
        UngatedModel: it has not, and ``allow_ungated`` is off.
        EngineBuildError: the bundle has no model for this precision.

    """
    model = model_file(bundle, precision)
    if precision == "int8":
        require_accurate(bundle, model, allow_ungated=allow_ungated)


def model_file(bundle: ModelBundle, precision: Precision, *, classic: bool = False) -> str:
    """Return the name of the ONNX file that a plan of this precision is made from.

    Raises:
        EngineBuildError: the bundle has no model for this precision, or no cache for the classic
            calibration.

    """
    quantization = bundle.manifest.quantization
    if quantization is not None and precision != "int8":
        msg = (
            f"{bundle.path}: its model came quantised ({quantization.form}), so it is int8, not "
            f"{precision}; build it with --precision int8, or import the float model it is of"
        )
        raise EngineBuildError(msg)
    if classic:
        _check_classic(bundle, precision)
        return MODEL
    own = MODEL_FILES[precision]
    if own in bundle.files:
        return own
    if quantization is not None:
        make = f"perception calibrate {bundle.path} --images DIR --requantize"
        msg = f"{bundle.path}: TensorRT cannot take its model: {quantization.no_tensorrt}; {make}"
        raise EngineBuildError(f"{msg} measures other scales")
    if precision == "int8":
        make = f"perception calibrate {bundle.path} --images DIR"
        msg = f"{bundle.path / own}: missing; make it with {make}, or build fp16"
        raise EngineBuildError(msg)
    return MODEL


def _check_classic(bundle: ModelBundle, precision: Precision) -> None:
    if precision != "int8":
        msg = f"the classic calibration is for int8, not {precision}; leave out --classic"
        raise EngineBuildError(msg)
    if CALIBRATION_CACHE not in bundle.files:
        make = f"perception calibrate {bundle.path} --images DIR"
        msg = f"{bundle.path / CALIBRATION_CACHE}: missing; make it with {make}"
        raise EngineBuildError(msg)


@dataclass(frozen=True, slots=True)
class _Build:
    """One build; called by the store at most once, while it holds the lock of this plan."""

    bundle: ModelBundle
    precision: Precision
    trt: TensorRt
    gpu: Gpu | None
    options: BuildOptions
    reporter: ProgressReporter
    store: PlanStore
    classic: bool

    @property
    def fingerprint(self) -> PlanFingerprint:
        return fingerprint_of(
            self.bundle, self.precision, self.trt, self.gpu, self.options, classic=self.classic
        )

    def __call__(self) -> NewPlan:
        if self.gpu is not None:
            PyCuda().close()  # raises what is missing, before the minutes that a build takes
        model = model_file(self.bundle, self.precision, classic=self.classic)
        source = self.bundle.read(model)
        if model == MODEL:
            _require_float(self.bundle.path / MODEL, source)
        parsed = self._convert(source)
        built = self._build(parsed)
        seconds = round(self.reporter.elapsed_s, 1)
        inspection = self._inspect(built)
        acceptance = self._accept(built)
        details = {
            "package": __version__,
            "model_file": model,
            "parsed_sha256": hashlib.sha256(parsed).hexdigest(),
            "strongly_typed": built.is_strongly_typed,
            "build_s": seconds,
            "network_layers": precision_table(built.layers),
            **inspection,
            "acceptance": acceptance,
        }
        return NewPlan(built.plan, details)

    def wait(self) -> None:
        """Say that another process builds the plan; called ten times a second."""
        self._check_cancelled()
        self.reporter.say(WAITING)

    def _convert(self, source: bytes) -> bytes:
        """Return the model as TensorRT gets it: of the final types where it is strongly typed."""
        is_half = self.precision == "fp16" and MODEL_FILES["fp16"] in self.bundle.files
        is_typed = self.trt.is_strongly_typed and not self.classic
        if self.precision == "fp32" or is_half or not is_typed:
            return source
        self.reporter.say("converting the model to float16")
        try:
            from perception_node.engines.half_precision import (  # noqa: PLC0415 - needs onnx
                to_half_precision,
            )
        except ModuleNotFoundError as error:
            raise MissingPackage(error) from error
        return to_half_precision(source)

    def _build(self, onnx: bytes) -> BuiltPlan:
        self.reporter.say("reading the model")
        key = self.fingerprint.timing_cache_key()
        try:
            built = build_plan(
                self.trt,
                onnx,
                self.precision,
                self.options,
                timing_cache=self.store.read_timing_cache(key) if self.gpu else b"",
                monitor=make_monitor(self.trt, self.reporter),
                calibrator=self._calibrator(),
            )
        except EngineBuildError:
            self._check_cancelled()
            raise
        self._check_cancelled()
        if self.gpu and built.timing_cache:
            self.store.write_timing_cache(key, built.timing_cache)
        return built

    def _calibrator(self) -> Calibrator | None:
        if not self.classic:
            return None
        return Calibrator(self.trt, self.bundle.read(CALIBRATION_CACHE))

    def _inspect(self, built: BuiltPlan) -> dict[str, Any]:
        """Check the precision of the network, if it is typed, and of the engine, with a GPU."""
        self.reporter.say("inspecting the plan")
        is_typed = built.is_strongly_typed
        quantized = sum(layer.precision == "int8" for layer in weighted_layers(built.layers))
        if is_typed:
            check_precision(built.layers, self.precision, is_typed=True, quantized=quantized)
        if self.gpu is None:
            return {"engine_layers": None, "inspection": None}
        inspection = inspect_plan(self.trt, built.plan)
        layers = layers_of_engine(inspection)
        if weighted_layers(layers) or not is_typed:  # else the compiler fused them beyond names
            # TensorRT fuses a transformer's layers beyond counting: then none may be float32.
            wanted = "fp16" if has_int8_products(built.layers) else self.precision
            check_precision(layers, wanted, is_typed=is_typed, quantized=quantized)
        return {"engine_layers": precision_table(layers), "inspection": inspection}

    def _accept(self, built: BuiltPlan) -> dict[str, Any]:
        if self.gpu is None:
            return {"done": False, "why": NO_GPU}
        self.reporter.say("comparing the plan with the model")

        def load() -> Engine:
            """Return an engine that notices every output that is not written."""
            return TensorRtEngine(
                self.bundle,
                built.plan,
                self.trt,
                PyCuda(),
                precision=self.precision,
                debug=True,
            )

        return accept_plan(self.bundle, self.precision, load)

    def _check_cancelled(self) -> None:
        if self.reporter.cancel.is_set():
            msg = "the build was cancelled; the plan store is as it was"
            raise EngineBuildError(msg)


def _require_float(path: Path, model: bytes) -> None:
    """Refuse a quantised model in the place of the float one: an old import did not look."""
    if any(node.operator in QUANTIZERS for node in look_through(model).nodes):
        msg = f"{path}: is quantised already; import it again as int8: perception import FILE"
        raise EngineBuildError(msg)


def _ignore(progress: BuildProgress) -> None:
    """Report to nobody."""
