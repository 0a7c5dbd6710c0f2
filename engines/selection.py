# SPDX-License-Identifier: Apache-2.0
"""Choose the engine: TensorRT where a plan and a GPU are there, ONNX Runtime everywhere else."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.fallback import FallbackPipeline
from perception_node.engines.loading import Loading, Phases
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.standstill import OwnClock
from perception_node.errors import ConfigError, EngineError, EnvironmentLacks, ModelFormatError
from perception_node.model.accuracy import require_accurate
from perception_node.model.bundle import INT8_ON_CPU, MODEL, load_bundle
from perception_node.system.resources import find_model
from perception_node.system.threads import find_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.config.sections import ModelConfig
    from perception_node.engines.base import Engine
    from perception_node.model.bundle import ModelBundle

STOP_TIMEOUT_S = 2.0


def load_pipeline(
    config: ModelConfig, progress: Phases | None = None, *, standby: bool = False
) -> FallbackPipeline:
    """Load a bundle, choose its engine as ``config.engine`` says, and run it warm.

    ``tensorrt`` keeps a warm ONNX Runtime engine beside it that takes over if it fails.
    ``auto`` is ``tensorrt`` where that can be had, ``onnxruntime`` otherwise; the pipeline's
    ``reason`` says why. Whatever is lost, another ONNX Runtime engine is made in its place.

    Args:
        config: that of the model.
        progress: told what is being done; gives up between two phases where that is asked for.
        standby: keep a second warm engine beside ``onnxruntime``, too; it takes over within the
            frame, and as much memory again.

    Raises:
        ConfigError: there is no such bundle, or an engine takes longer for a frame than
            ``config.engine_timeout_ms``.
        ModelError: the bundle cannot be used; UngatedModel if nobody has shown that its int8
            model is accurate and ``config.allow_ungated`` is off.
        EngineError: the engine cannot be made, or fails on a black image.
        EnvironmentLacks: ``tensorrt`` was asked for and something it needs is not here.

    """
    progress = progress or Phases()
    progress.say("reading the bundle")
    bundle = load_bundle(find_model(config.model))
    if config.engine == "onnxruntime":
        return _run_on_cpu(bundle, config, "engine is onnxruntime", progress, standby=standby)
    prepare = partial(_on_cpu, bundle, config, MODEL)
    second = prepare(progress)
    second.start()
    tensorrt = _on_tensorrt(bundle, config, progress)
    try:
        tensorrt.start()
    except (EngineError, EnvironmentLacks) as error:
        reason = f"engine is auto, no TensorRT: {error}"
        if config.engine == "auto" and config.precision != "int8":
            engines = _start((second, prepare(progress)) if standby else (second,))
            return FallbackPipeline(bundle, engines, reason, prepare)
        second.close()
        if config.engine == "tensorrt":
            raise
    except BaseException:
        second.close()
        raise
    else:
        reason = f"engine is {config.engine}; ONNX Runtime stands by"
        return FallbackPipeline(bundle, (tensorrt, second), reason, prepare)
    return _run_on_cpu(bundle, config, reason, progress, standby=standby)


def load_in_time(config: ModelConfig, *, standby: bool = False) -> FallbackPipeline:
    """Load as ``load_pipeline`` does, in ``config.configure_timeout_s``; Ctrl-C gives up.

    Raises:
        EngineError: it took longer.
        PerceptionError: as ``load_pipeline``.

    """
    load = partial(load_pipeline, config, standby=standby)
    loading = Loading(load, config.configure_timeout_s)
    loading.start()
    try:
        return loading.wait()
    except BaseException:
        loading.join(STOP_TIMEOUT_S)  # most libraries can be stopped
        raise


def _run_on_cpu(
    bundle: ModelBundle, config: ModelConfig, reason: str, progress: Phases, *, standby: bool
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
    prepare = partial(_on_cpu, bundle, config, model)
    engines = _start([prepare(progress) for _ in range(2 if standby else 1)])
    return FallbackPipeline(bundle, engines, reason, prepare)


def _start(engines: Sequence[EngineThread]) -> tuple[EngineThread, ...]:
    """Make engines, all or none; one that was made before is left as it is."""
    with ExitStack() as undo:
        for engine in engines:
            engine.start()
            undo.callback(engine.close)
        undo.pop_all()
    return tuple(engines)


def _on_cpu(
    bundle: ModelBundle, config: ModelConfig, model: str, progress: Phases | None = None
) -> EngineThread:
    """Prepare an ONNX Runtime engine; only a hang costs it, a failure costs the frame."""
    told = progress or Phases()

    def make() -> Pipeline:
        def make_engine() -> Engine:
            told.say(f"ONNX Runtime loads {model}")
            return OnnxRuntimeEngine(bundle, config.threads, model)

        return _warm(bundle, make_engine, config, told)

    return EngineThread(make, config.engine_timeout_ms / 1000, survives_errors=True)


def _on_tensorrt(bundle: ModelBundle, config: ModelConfig, progress: Phases) -> EngineThread:
    """Prepare a TensorRT engine; whatever fails costs it, for ONNX Runtime stands by."""

    def make() -> Pipeline:
        from perception_node.engines.tensorrt.loading import (  # noqa: PLC0415 - where it is wanted
            load_engine,
        )

        def make_engine() -> Engine:
            progress.say("looking for TensorRT and a plan")
            return load_engine(
                bundle,
                config.precision,
                store=config.plan_store,
                build_missing=config.build_missing_plan,
                report=progress.say_build,
                cancel=progress.given_up,
                allow_ungated=config.allow_ungated,
            )

        return _warm(bundle, make_engine, config, progress)

    return EngineThread(make, config.engine_timeout_ms / 1000)


def _warm(
    bundle: ModelBundle, make: Callable[[], Engine], config: ModelConfig, progress: Phases
) -> Pipeline:
    """Return a pipeline that has run; free the engine if it fails already there."""
    others = find_threads()
    engine = make()
    clock = OwnClock((find_threads() - others) | {threading.get_native_id()})
    pipeline = Pipeline(bundle, engine)
    try:
        progress.say(f"warming up {engine.description}")
        with progress.stopped_by(engine.interrupt):
            frame_ms = pipeline.warm_up(clock.now_ns) / 1e6
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
