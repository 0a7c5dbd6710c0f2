# SPDX-License-Identifier: Apache-2.0
"""Choose the engine: the first of the registry that can be had here; the last stands by."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from perception_node.engines.engine_thread import EngineThread
from perception_node.engines.fallback import FallbackPipeline
from perception_node.engines.loading import Loading, Phases
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.registry import ENGINES, Order
from perception_node.engines.standstill import OwnClock
from perception_node.errors import ConfigError, EngineError, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from perception_node.system.resources import find_model
from perception_node.system.threads import find_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.config.sections import ModelConfig
    from perception_node.engines.base import Engine
    from perception_node.engines.registry import EngineKind

AUTO = "auto"
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
    precision = bundle.precision(config.precision)
    order = Order(bundle, precision, config, progress, f"engine is {config.engine}")
    reserve, number = ENGINES[-1], 2 if standby else 1
    if config.engine == reserve.name:
        return _run(order, [_prepare(reserve, order) for _ in range(number)])
    slower = order._replace(precision=bundle.precision("fp32"))
    second = _prepare(reserve, slower)
    second.start()
    try:
        first, reason = _start_first(order)
    except BaseException:
        second.close()
        raise
    order = order._replace(reason=reason)
    if first is None and precision == "int8" and slower.precision != precision:
        second.close()
        return _run(order, [_prepare(reserve, order) for _ in range(number)])
    order = order._replace(precision=slower.precision)
    if first is not None:
        return _run(order, [first, second])
    return _run(order, [second, *(_prepare(reserve, order) for _ in range(number - 1))])


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


def _start_first(order: Order) -> tuple[EngineThread | None, str]:
    """Start the first engine that can be had of those that are asked for, and say why it is that.

    Returns None for it where ``auto`` finds none.

    Raises:
        EngineError, EnvironmentLacks: the one that is asked for cannot be had.
        PerceptionError: whatever else making it has raised.

    """
    asked, reason, (*kinds, reserve) = order.config.engine, order.reason, ENGINES
    for kind in kinds:
        if asked not in {AUTO, kind.name}:
            continue
        engine = _prepare(kind, order)
        try:
            engine.start()
        except (EngineError, EnvironmentLacks) as error:
            if asked != AUTO:
                raise
            reason = f"{reason}, no {kind.title}: {error}"
        else:
            return engine, f"{order.reason}; {reserve.title} stands by"
    return None, reason


def _run(order: Order, engines: Sequence[EngineThread]) -> FallbackPipeline:
    """Return a pipeline of engines; they are made now, all or none, if they were not before.

    The order is that of the engines which take the places of lost ones.
    """

    def prepare() -> EngineThread:
        return _prepare(ENGINES[-1], order._replace(progress=Phases()))

    with ExitStack() as undo:
        for engine in engines:
            undo.callback(engine.close)
        for engine in engines:
            engine.start()
        undo.pop_all()
    return FallbackPipeline(order.bundle, tuple(engines), order.reason, prepare)


def _prepare(kind: EngineKind, order: Order) -> EngineThread:
    """Prepare an engine. An error costs it, but not one of the last: another would fail alike."""
    timeout_s, is_last = order.config.engine_timeout_ms / 1000, kind is ENGINES[-1]
    return EngineThread(partial(_warm, kind, order), timeout_s, survives_errors=is_last)


def _warm(kind: EngineKind, order: Order) -> Pipeline:
    """Return a pipeline that has run; free the engine if it fails already there."""
    others, progress = find_threads(), order.progress
    engine = kind.load(order)
    clock = OwnClock((find_threads() - others) | {threading.get_native_id()})
    pipeline = Pipeline(order.bundle, engine)
    try:
        progress.say(f"warming up {engine.description}")
        with progress.stopped_by(engine.interrupt):
            frame_ms = pipeline.warm_up(clock.now_ns) / 1e6
        _require_speed(engine, frame_ms, order.config.engine_timeout_ms)
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
