# SPDX-License-Identifier: Apache-2.0
"""Choose the engine: TensorRT where a plan and a GPU are there, ONNX Runtime everywhere else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from perception_node.accuracy import require_accurate
from perception_node.bundle import INT8_ON_CPU, MODEL, load_bundle
from perception_node.engine_thread import EngineThread
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import ConfigError, EngineError, EnvironmentLacks, ModelFormatError
from perception_node.fallback import FallbackPipeline
from perception_node.loading import Loading, Progress
from perception_node.pipeline import Pipeline
from perception_node.resources import find_model

if TYPE_CHECKING:
    from perception_node.bundle import ModelBundle, Precision
    from perception_node.config import NodeConfig
    from perception_node.engines.base import Engine
STOP_TIMEOUT_S = 2.0


def load_pipeline(config: NodeConfig, progress: Progress | None = None) -> FallbackPipeline:
    """Load a bundle, choose its engine as ``config.engine`` says, and run it warm.

    ``tensorrt`` keeps a warm ONNX Runtime engine beside it that takes over if it fails.
    ``onnxruntime`` is replaced by another engine of its kind, which is made if it hangs.
    ``auto`` is ``tensorrt`` where that can be had, ``onnxruntime`` otherwise; the pipeline's
    ``reason`` says why.

    Args:
        config: the node's.
        progress: told what is being done; gives up between two phases where that is asked for.

    Raises:
        ConfigError: there is no such bundle, or an engine takes longer for a frame than
            ``config.engine_timeout_ms``.
        ModelError: the bundle cannot be used; UngatedModel if nobody has shown that its int8
            model is accurate and ``config.allow_ungated`` is off.
        EngineError: the engine cannot be made, or fails on a black image.
        EnvironmentLacks: ``tensorrt`` was asked for and something it needs is not here.

    """
    progress = progress or Progress()
    progress.say("reading the bundle")
    bundle = load_bundle(find_model(config.model))
    if config.engine == "onnxruntime":
        return _run_on_cpu(bundle, config, "engine is onnxruntime", progress)
    standby = _on_cpu(bundle, config, MODEL, progress)
    standby.start()
    tensorrt = _on_tensorrt(bundle, config, progress)
    try:
        tensorrt.start()
    except (EngineError, EnvironmentLacks) as error:
        reason = f"engine is auto, no TensorRT: {error}"
        if config.engine == "auto" and config.precision != "int8":
            spare = _on_cpu(bundle, config, MODEL)
            return FallbackPipeline(bundle, (standby, spare), reason)
        standby.close()
        if config.engine == "tensorrt":
            raise
    except BaseException:
        standby.close()
        raise
    else:
        reason = f"engine is {config.engine}; ONNX Runtime stands by"
        return FallbackPipeline(bundle, (tensorrt, standby), reason)
    return _run_on_cpu(bundle, config, reason, progress)


def load_in_time(config: NodeConfig) -> FallbackPipeline:
    """Load as ``load_pipeline`` does, in ``config.configure_timeout_s``; Ctrl-C gives up.

    Raises:
        EngineError: it took longer.
        PerceptionError: as ``load_pipeline``.

    """
    loading = Loading(partial(load_pipeline, config), config.configure_timeout_s)
    loading.start()
    try:
        return loading.wait()
    except BaseException:
        loading.join(STOP_TIMEOUT_S)  # most libraries can be stopped
        raise


def _run_on_cpu(
    bundle: ModelBundle, config: NodeConfig, reason: str, progress: Progress
) -> FallbackPipeline:
    """Run on ONNX Runtime: int8 if that is wanted, float32 otherwise."""
    model = MODEL
    if config.precision == "int8":
        model = INT8_ON_CPU
        if model not in bundle.files:
            make = f"run: perception calibrate {bundle.path} --images DIR"
            problem = f"missing; {make}, or set precision to fp32 ({reason})"
            raise ModelFormatError(bundle.path / model, problem)
        require_accurate(bundle, model, allow_ungated=config.allow_ungated)
    engine, replacement = _on_cpu(bundle, config, model, progress), _on_cpu(bundle, config, model)
    engine.start()
    return FallbackPipeline(bundle, (engine, replacement), reason)


def _on_cpu(
    bundle: ModelBundle, config: NodeConfig, model: str, progress: Progress | None = None
) -> EngineThread:
    """Prepare an ONNX Runtime engine; only a hang costs it, a failure costs the frame."""
    told = progress or Progress()

    def make() -> Pipeline:
        told.say(f"ONNX Runtime loads {model}")
        return _warm(bundle, OnnxRuntimeEngine(bundle, config.threads, model), config, told)

    return EngineThread(make, config.engine_timeout_ms / 1000, survives_errors=True)


def _on_tensorrt(bundle: ModelBundle, config: NodeConfig, progress: Progress) -> EngineThread:
    """Prepare a TensorRT engine; whatever fails costs it, for ONNX Runtime stands by."""

    def make() -> Pipeline:
        from perception_node.engines.tensorrt.loading import (  # noqa: PLC0415 - where it is wanted
            load_engine,
        )

        progress.say("looking for TensorRT and a plan")
        engine = load_engine(
            bundle,
            cast("Precision", config.precision),  # NodeConfig has checked it
            store=config.plan_store,
            build_missing=config.build_missing_plan,
            report=progress.say_build,
            cancel=progress.given_up,
            allow_ungated=config.allow_ungated,
        )
        return _warm(bundle, engine, config, progress)

    return EngineThread(make, config.engine_timeout_ms / 1000)


def _warm(bundle: ModelBundle, engine: Engine, config: NodeConfig, progress: Progress) -> Pipeline:
    """Return a pipeline that has run; free the engine if it fails already there."""
    pipeline = Pipeline(bundle, engine)
    try:
        progress.say(f"warming up {engine.description}")
        with progress.stopped_by(engine.interrupt):
            frame_ms = pipeline.warm_up() / 1e6
        _require_speed(engine, frame_ms, config.engine_timeout_ms)
    except BaseException:
        pipeline.close()
        raise
    return pipeline


def _require_speed(engine: Engine, frame_ms: float, timeout_ms: int) -> None:
    if frame_ms > timeout_ms:
        msg = (
            f"a frame takes {frame_ms:.1f} ms on {engine.description}, so the first would already "
            f"count as a hang: engine_timeout_ms is {timeout_ms}; raise it well above that"
        )
        raise ConfigError(msg)
