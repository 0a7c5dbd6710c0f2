# SPDX-License-Identifier: Apache-2.0
"""An ONNX model becomes a plan: one way for TensorRT 8.6 to 11.x and TensorRT-RTX.

Where TensorRT is strongly typed, the ONNX model says the precision of every tensor. Before that,
and with a calibrator, the builder's flags allow lower ones, and TensorRT takes what is fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.engines.tensorrt.inspection import layers_of_network
from perception_node.errors import EngineBuildError

if TYPE_CHECKING:
    from perception_node.config.sections import Precision
    from perception_node.engines.plans.fingerprint import BuildOptions
    from perception_node.engines.tensorrt.api import (
        Builder,
        IBuilderConfig,
        IHostMemory,
        INetworkDefinition,
        IProgressMonitor,
        ITimingCache,
        OnnxParser,
        ParserError,
        TensorRt,
    )
    from perception_node.engines.tensorrt.calibrator import Calibrator
    from perception_node.engines.tensorrt.inspection import Layer
    from perception_node.untyped import TensorRtObject

ERRORS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """What TensorRT made.

    Attributes:
        plan: the serialized engine.
        timing_cache: what TensorRT learned about this GPU, for the next build; may be empty.
        is_strongly_typed: whether the ONNX model dictated the precision.
        layers: the network that TensorRT read, before it fused layers and chose kernels.

    """

    plan: bytes
    timing_cache: bytes
    is_strongly_typed: bool
    layers: tuple[Layer, ...]


def build_plan(
    trt: TensorRt,
    onnx: bytes,
    precision: Precision,
    options: BuildOptions,
    *,
    timing_cache: bytes = b"",
    monitor: IProgressMonitor | None = None,
    calibrator: Calibrator | None = None,
) -> BuiltPlan:
    """Build a plan from an ONNX model with fixed shapes; takes seconds to minutes.

    Args:
        trt: which TensorRT; its log is emptied first.
        onnx: the model. Where ``trt.is_strongly_typed`` it must be of the precision already;
            elsewhere it is the float32 model, or for int8 the one with Q/DQ nodes.
        precision: what the flags allow where TensorRT is not strongly typed.
        options: workspace limit and effort.
        timing_cache: of an earlier build for the same GPU and TensorRT, or empty.
        monitor: from ``make_monitor``; None where nobody watches.
        calibrator: for int8 without Q/DQ nodes; ``onnx`` is the float32 model then, and nothing
            is strongly typed.

    Raises:
        CalibrationError: the calibrator's cache cannot be used.
        EngineBuildError: TensorRT cannot parse or build it, or the monitor said no; the last
            lines of its log are in the message.
        EngineError: TensorRT cannot work here at all.

    """
    trt.log.clear()
    is_typed = trt.is_strongly_typed and calibrator is None
    # All of these, and the model's bytes, must live until the plan is built.
    builder: Builder = trt.make(trt.module.Builder, trt.logger)
    network: INetworkDefinition = _check(
        trt, builder.create_network(_network_flags(trt, is_typed=is_typed)), "no network"
    )
    parser: OnnxParser = trt.make(trt.module.OnnxParser, network, trt.logger)
    _parse(trt, parser, onnx)
    config = _configure(trt, builder, precision, options, is_typed=is_typed)
    if calibrator is not None:
        calibrator.check_network(network)
        config.int8_calibrator = calibrator.native
    has_timings = _add_timing_cache(trt, config, timing_cache)
    if monitor is not None and trt.has("IBuilderConfig.progress_monitor"):
        config.progress_monitor = monitor
    made = builder.build_serialized_network(network, config)
    if calibrator is not None:
        calibrator.check()  # first, as its problem is why there is no plan
    plan: IHostMemory = _check(trt, made, "no plan")
    timings: ITimingCache = config.get_timing_cache() if has_timings else None
    return BuiltPlan(
        plan=bytes(plan),
        timing_cache=b"" if timings is None else bytes(timings.serialize()),
        is_strongly_typed=is_typed,
        layers=layers_of_network(network),
    )


def _network_flags(trt: TensorRt, *, is_typed: bool) -> int:
    flags = 0
    wanted = ["EXPLICIT_BATCH"] + ["STRONGLY_TYPED"] * is_typed
    for name in wanted:
        if trt.has(f"NetworkDefinitionCreationFlag.{name}"):
            flags |= 1 << int(getattr(trt.module.NetworkDefinitionCreationFlag, name))
    return flags


def _add_timing_cache(trt: TensorRt, config: IBuilderConfig, content: bytes) -> bool:
    """Let the builder read and extend a timing cache, an empty one if this is another GPU's."""
    if trt.backend == "tensorrt-rtx":  # times its kernels when it loads a plan
        return False
    for data in (content, b""):
        cache: ITimingCache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return True
    return False


def _parse(trt: TensorRt, parser: OnnxParser, onnx: bytes) -> None:
    if parser.parse(onnx):
        return
    shown = min(parser.num_errors, ERRORS_SHOWN)
    reasons = "; ".join(_describe(parser.get_error(index)) for index in range(shown))
    msg = f"TensorRT {trt.version} cannot read the model: {reasons or trt.log.text()}"
    raise EngineBuildError(msg)


def _describe(error: ParserError) -> str:
    what = " ".join(error.desc().split())[:200]
    return f"{error.code().name} at node {error.node()}: {what}"


def _configure(
    trt: TensorRt, builder: Builder, precision: Precision, options: BuildOptions, *, is_typed: bool
) -> IBuilderConfig:
    config: IBuilderConfig = _check(trt, builder.create_builder_config(), "no configuration")
    # The default is most of the memory, which on a Jetson is the whole robot's.
    workspace = options.workspace_mib << 20
    config.set_memory_pool_limit(trt.module.MemoryPoolType.WORKSPACE, workspace)
    config.profiling_verbosity = trt.module.ProfilingVerbosity.DETAILED  # for the inspection
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if precision == "fp32":  # nobody expects the 10 bits of a TF32 mantissa
        config.clear_flag(trt.module.BuilderFlag.TF32)
    if not is_typed:
        if precision in {"fp16", "int8"}:
            config.set_flag(trt.module.BuilderFlag.FP16)
        if precision == "int8":  # Q/DQ nodes alone are refused
            config.set_flag(trt.module.BuilderFlag.INT8)
    return config


def _check(trt: TensorRt, made: TensorRtObject, problem: str) -> TensorRtObject:
    """Return what TensorRT made; it says no by returning None."""
    if made is None:
        msg = f"TensorRT {trt.version} made {problem}: {trt.log.text()}"
        raise EngineBuildError(msg)
    return made
