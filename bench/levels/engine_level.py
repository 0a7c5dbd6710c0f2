# SPDX-License-Identifier: Apache-2.0
"""Bare inference at the pace of a camera: the limit of everything that is built around it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.levels.measuring_process import answer, run_measurement
from perception_node.bench.levels.paced import (
    Schedule,
    measure_frames,
    prepare_process,
    read_config,
)
from perception_node.bench.levels.paced_run import PacedRun, read_load, to_task
from perception_node.bench.reporting.measurement import INFER, Run
from perception_node.engines.selection import load_pipeline
from perception_node.vision.preprocess import FramePreprocessor
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perception_node.bench.levels.paced_run import OnProgress
    from perception_node.engines.pipeline import Pipeline
    from perception_node.vision.frame import Frame

MODULE = "perception_node.bench.levels.engine_level"
SUBJECT = "bare"


def measure_engine(
    load: Load,
    parameters: Mapping[str, Any],
    deadline_ms: float,
    *,
    back_to_back: bool = False,
    on_progress: OnProgress | None = None,
) -> Run:
    """Run the model alone in a fresh process, on the thread and with the settings of the node.

    The input is the first picture of the load, preprocessed. Of several cameras, the frames of all
    are inferred, evenly in time.

    Args:
        load: rate, frames and warm-up.
        parameters: of the node: ``model``, ``engine``, ``threads`` and so on.
        deadline_ms: what counts as missed.
        back_to_back: do not wait until a frame is due.
        on_progress: called a few times a second.

    Raises:
        ConfigError: a parameter, or the model, cannot be used.
        EnvironmentLacks: the engine that was asked for is not here.
        RunInterrupted: Ctrl-C; holds what was measured so far.

    """
    rate_hz = 0.0 if back_to_back else load.rate_hz * load.cameras
    schedule = Schedule(rate_hz, load.total, load.warm_up_frames * load.cameras)
    run = PacedRun(SUBJECT, (INFER,), schedule, deadline_ms, on_progress)
    return run.measure(MODULE, to_task(load, parameters))


def describe_model(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return ``model`` of a ``Report``: name, sha256 of its file, what it runs on.

    Raises:
        ConfigError, EnvironmentLacks: as ``measure_engine``.

    """
    task = to_task(Load(), parameters)
    model: dict[str, str] = run_measurement(MODULE, {**task, "schedule": [0.0, 0, 0]})["model"]
    return model


def _measure(task: dict[str, Any], write_row: Callable[[list[int]], None]) -> dict[str, Any]:
    """Do it; runs in the process of its own."""
    config, load = read_config(task["parameters"]), read_load(task)
    message = bytes(make_messages(load)[0])
    prepare_process()  # not before: malloc would keep the memory of the other messages
    with load_pipeline(config.model) as pipeline:
        reader = ImageReader(
            load.transport, config.cameras.max_image_pixels, pipeline.smallest_side
        )
        frame = reader.read(message)
        engine = pipeline.engine
        assert engine is not None  # noqa: S101 - it has just been loaded
        engine.call(lambda inner: _fill_input(inner, frame))

        def step(_number: int) -> list[int]:
            return [engine.call(_infer)]

        return measure_frames(Schedule(*task["schedule"]), config, pipeline, step, write_row)


def _fill_input(pipeline: Pipeline, frame: Frame) -> None:
    """Prepare a frame on the CPU: what the input holds is used as often as ``infer`` is called."""
    FramePreprocessor(pipeline.bundle.manifest.preprocessing, pipeline.engine.input)(frame)


def _infer(pipeline: Pipeline) -> int:
    """Return the nanoseconds of one inference; runs on the engine's thread."""
    begin_ns = time.monotonic_ns()
    pipeline.engine.infer()
    return time.monotonic_ns() - begin_ns


if __name__ == "__main__":
    answer(_measure)
