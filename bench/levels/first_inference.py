# SPDX-License-Identifier: Apache-2.0
"""What the first inference of a process costs that was not warmed up, and what a later one does.

The node hides the first ones: it classifies black images while it is configured.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.levels.measuring_process import answer, run_measurement
from perception_node.bench.levels.paced import prepare_process, read_config
from perception_node.bench.levels.paced_run import read_load, to_task
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.selection import load_pipeline
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MODULE = "perception_node.bench.levels.first_inference"
STEADY = slice(20, 50)


def measure_first_inference(load: Load, parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Return the nanoseconds of the first inference and of a steady one, in a fresh process.

    A steady one is the median of the 20th to the 50th.

    Raises:
        ConfigError: a parameter, or the model, cannot be used.
        EnvironmentLacks: the engine that was asked for is not here.

    """
    times_ns = run_measurement(MODULE, to_task(load, parameters))["times_ns"]
    return times_ns[0], round(median(times_ns[STEADY]))


def _measure(task: dict[str, Any], _write_row: Callable[[list[int]], None]) -> dict[str, Any]:
    """Infer from a cold start; runs in the process of its own."""
    prepare_process()
    config, load = read_config(task["parameters"]), read_load(task)
    message = bytes(make_messages(load)[0])
    Pipeline.warm_up = _do_not_warm_up  # type: ignore[assignment] # this process is for that
    with load_pipeline(config.model) as pipeline:
        reader = ImageReader(
            load.transport, config.cameras.max_image_pixels, pipeline.smallest_side
        )
        frame = reader.read(message)
        runs = (pipeline.run(frame, top_k=1, threshold=0.0) for _ in range(STEADY.stop))
        return {"times_ns": [prediction.times.infer_ns for prediction in runs]}


def _do_not_warm_up(_pipeline: Pipeline, _clock: object = None) -> int:
    return 0


if __name__ == "__main__":
    answer(_measure)
