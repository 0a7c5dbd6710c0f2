# SPDX-License-Identifier: Apache-2.0
"""Choose the engine: TensorRT where a plan and a GPU are there, ONNX Runtime everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from perception_node.accuracy import require_accurate
from perception_node.bundle import INT8_ON_CPU, MODEL, load_bundle
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineError, EnvironmentLacks, ModelFormatError
from perception_node.fallback import FallbackPipeline
from perception_node.pipeline import Pipeline
from perception_node.resources import find_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.bundle import ModelBundle, Precision
    from perception_node.config import NodeConfig
    from perception_node.engines.tensorrt.progress import BuildProgress

SelectedPipeline = Pipeline | FallbackPipeline


def load_pipeline(
    config: NodeConfig, report: Callable[[BuildProgress], None] | None = None
) -> SelectedPipeline:
    """Load a bundle, choose its engine as ``config.engine`` says, and run it warm.

    ``tensorrt`` keeps a warm ONNX Runtime engine beside it that takes over if it fails.
    ``auto`` is ``tensorrt`` where that can be had, ``onnxruntime`` otherwise; the pipeline's
    ``reason`` says why.

    Args:
        config: the node's.
        report: told how far the build of a plan is, where one is built.

    Raises:
        ConfigError: there is no such bundle.
        ModelError: the bundle cannot be used; UngatedModel if nobody has shown that its int8
            model is accurate and ``config.allow_ungated`` is off.
        EngineError: the engine cannot be made, or fails on a black image.
        EnvironmentLacks: ``tensorrt`` was asked for and something it needs is not here.

    """
    bundle = load_bundle(find_model(config.model))
    if config.engine == "onnxruntime":
        return _on_cpu(bundle, config, "engine is onnxruntime")
    standby = _warm(Pipeline(bundle, OnnxRuntimeEngine(bundle, config.threads)))
    try:
        return FallbackPipeline(
            lambda: _on_tensorrt(bundle, config, report),
            standby,
            timeout_s=config.engine_timeout_ms / 1000,
            reason=f"engine is {config.engine}; ONNX Runtime stands by",
        )
    except (EngineError, EnvironmentLacks) as error:
        reason = f"engine is auto, no TensorRT: {error}"
        if config.engine == "auto" and config.precision != "int8":
            standby.reason = reason
            return standby
        standby.close()
        if config.engine == "tensorrt":
            raise
    except BaseException:
        standby.close()
        raise
    return _on_cpu(bundle, config, reason)


def _on_cpu(bundle: ModelBundle, config: NodeConfig, reason: str) -> Pipeline:
    """Make the ONNX Runtime pipeline: int8 if that is wanted, float32 otherwise."""
    model = MODEL
    if config.precision == "int8":
        model = INT8_ON_CPU
        if model not in bundle.files:
            make = f"run: perception calibrate {bundle.path} --images DIR"
            problem = f"missing; {make}, or set precision to fp32 ({reason})"
            raise ModelFormatError(bundle.path / model, problem)
        require_accurate(bundle, model, allow_ungated=config.allow_ungated)
    pipeline = _warm(Pipeline(bundle, OnnxRuntimeEngine(bundle, config.threads, model)))
    pipeline.reason = reason
    return pipeline


def _on_tensorrt(
    bundle: ModelBundle, config: NodeConfig, report: Callable[[BuildProgress], None] | None
) -> Pipeline:
    """Make the TensorRT pipeline, on the thread that will run it."""
    from perception_node.engines.tensorrt.loading import (  # noqa: PLC0415 - only where it is wanted
        load_engine,
    )

    engine = load_engine(
        bundle,
        cast("Precision", config.precision),  # NodeConfig has checked it
        store=config.plan_store,
        build_missing=config.build_missing_plan,
        report=report,
        allow_ungated=config.allow_ungated,
    )
    return _warm(Pipeline(bundle, engine))


def _warm(pipeline: Pipeline) -> Pipeline:
    """Run a new pipeline warm; free it if it fails already there."""
    try:
        pipeline.warm_up()
    except BaseException:
        pipeline.close()
        raise
    return pipeline
