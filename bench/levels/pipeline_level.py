# SPDX-License-Identifier: Apache-2.0
"""Decode, preprocess, infer, postprocess at the pace of a camera: the node without its ROS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.levels.measuring_process import answer
from perception_node.bench.levels.paced import (
    Schedule,
    measure_frames,
    prepare_process,
    read_config,
)
from perception_node.bench.levels.paced_run import PacedRun, read_load, to_task
from perception_node.bench.reporting.measurement import INFER, Run
from perception_node.engines.selection import load_pipeline
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perception_node.bench.levels.paced_run import OnProgress

MODULE = "perception_node.bench.levels.pipeline_level"
SUBJECT = "pipeline"
TOTAL = "total"
FIRST_STAGE = {"raw": "read", "compressed": "decode"}


def measure_pipeline(
    load: Load,
    parameters: Mapping[str, Any],
    deadline_ms: float,
    *,
    on_progress: OnProgress | None = None,
) -> Run:
    """Classify the messages of a load in a fresh process, one after the other when they are due.

    ``total`` is from the serialized message to the hypotheses. It holds the way to the engine's
    thread and back, which is no stage of its own, and decides what is missed.

    Args:
        load: what is played; of several cameras the frames of all, evenly in time.
        parameters: of the node.
        deadline_ms: what counts as missed.
        on_progress: called a few times a second.

    Raises:
        ConfigError: a parameter, the load or the model cannot be used.
        EnvironmentLacks: the engine that was asked for is not here.
        RunInterrupted: Ctrl-C; holds what was measured so far.

    """
    rate_hz = load.rate_hz * load.cameras
    schedule = Schedule(rate_hz, load.total, load.warm_up_frames * load.cameras)
    stages = (FIRST_STAGE[load.transport], "preprocess", INFER, "postprocess", TOTAL)
    run = PacedRun(SUBJECT, stages, schedule, deadline_ms, on_progress)
    return run.measure(MODULE, to_task(load, parameters))


def _measure(task: dict[str, Any], write_row: Callable[[list[int]], None]) -> dict[str, Any]:
    """Do it; runs in the process of its own."""
    config, load = read_config(task["parameters"]), read_load(task)
    messages = [bytes(message) for message in make_messages(load)]
    prepare_process()  # not before: malloc would keep what was needed to make them
    with load_pipeline(config.model) as pipeline:
        reader = ImageReader(
            load.transport, config.cameras.max_image_pixels, pipeline.smallest_side
        )

        def step(number: int) -> list[int]:
            begin_ns = time.monotonic_ns()
            frame = reader.read(messages[number % len(messages)])
            read_ns = time.monotonic_ns() - begin_ns
            prediction = pipeline.run(
                frame, top_k=config.output.top_k, threshold=config.output.threshold
            )
            return [read_ns, *prediction.times, time.monotonic_ns() - begin_ns]

        return measure_frames(Schedule(*task["schedule"]), config, pipeline, step, write_row)


if __name__ == "__main__":
    answer(_measure)
