# SPDX-License-Identifier: Apache-2.0
"""The side of a paced measurement that measures: frames at a fixed rate, in a process of its own.

The pace is the camera's, not the machine's best: back to back, caches and clocks are warmer than
they ever are in a node.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from perception_node.bench.camera.load import make_messages, read_load
from perception_node.bench.levels.child_process import answer
from perception_node.bench.process_watch import read_sample
from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.selection import load_pipeline
from perception_node.model.bundle import INT8_ON_CPU, MODEL, MODEL_FILES
from perception_node.system.process import keep_large_blocks, use_one_opencv_thread
from perception_node.system.realtime import RealTimeSetup
from perception_node.vision.preprocess import FramePreprocessor
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.config.sections import ModelConfig
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.vision.frame import Frame

    Step = Callable[[int], list[int]]


class Schedule(NamedTuple):
    """When frames are due.

    Attributes:
        rate_hz: frames per second; 0 is back to back.
        frames: how many are measured.
        warm_up_frames: how many come before them.

    """

    rate_hz: float
    frames: int
    warm_up_frames: int


def measure(task: dict[str, Any], write_row: Callable[[list[int]], None]) -> dict[str, Any]:
    """Measure what the task says.

    Args:
        task: ``subject``: bare or pipeline; ``load``; ``parameters`` of the node; ``schedule``;
            ``is_cold``: let the first inference be really the first.
        write_row: gets ``[due_ns, begin_ns, ...]`` with the nanoseconds of each stage.

    Returns:
        ``resources`` of a ``Run``, and ``model`` of a ``Report``.

    """
    config, load = read_config(task["parameters"]), read_load(task["load"])
    is_bare = task["subject"] == "bare"
    messages = [bytes(message) for message in make_messages(load)[: 1 if is_bare else None]]
    # Set up as the node does; not before: malloc would keep what was needed to make the messages.
    keep_large_blocks()
    use_one_opencv_thread()
    if task["is_cold"]:
        Pipeline.warm_up = _do_not_warm_up  # type: ignore[assignment] # this process is for that
    with load_pipeline(config.model) as pipeline:
        reader = ImageReader(
            load.transport, config.cameras.max_image_pixels, pipeline.smallest_side
        )
        if is_bare:
            step = _infer_alone(pipeline, reader.read(messages[0]))
        else:
            step = _classify(pipeline, reader, messages, config)
        return _measure_frames(Schedule(*task["schedule"]), config, pipeline, step, write_row)


def read_config(parameters: dict[str, Any]) -> NodeConfig:
    """Return the node's configuration for parameters that came as JSON.

    What the configuration does not have, such as ``use_sim_time``, has no meaning without ROS.

    Raises:
        ConfigError: a value is not allowed.

    """
    values = {name: value for name, value in parameters.items() if name in ALL_PARAMETERS}
    return NodeConfig().with_values(
        {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )


def pace(rate_hz: float, count: int) -> Iterator[int]:
    """Yield ``count`` times, each when a frame is due: that time, in steady nanoseconds.

    The schedule is absolute: a frame that took too long makes the next one late and moves nothing.
    At rate 0 a frame is due at once.
    """
    begin_ns = time.monotonic_ns()
    for number in range(count):
        due_ns = begin_ns + round(number * 1e9 / rate_hz) if rate_hz else time.monotonic_ns()
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        yield due_ns


def _infer_alone(pipeline: FallbackPipeline, frame: Frame) -> Step:
    """Let each step run the model alone on a frame, on the thread of the engine."""
    engine = pipeline.engine
    assert engine is not None  # noqa: S101 - it has just been loaded
    engine.call(lambda inner: _fill_input(inner, frame))
    return lambda _number: [engine.call(_infer)]


def _fill_input(pipeline: Pipeline, frame: Frame) -> None:
    """Prepare a frame on the CPU: what the input holds is used as often as ``infer`` is called."""
    FramePreprocessor(pipeline.bundle.manifest.preprocessing, pipeline.engine.input)(frame)


def _infer(pipeline: Pipeline) -> int:
    """Return the nanoseconds of one inference; runs on the engine's thread."""
    begin_ns = time.monotonic_ns()
    pipeline.engine.infer()
    return time.monotonic_ns() - begin_ns


def _classify(
    pipeline: FallbackPipeline, reader: ImageReader, messages: list[bytes], config: NodeConfig
) -> Step:
    """Let each step read and classify the next message."""

    def step(number: int) -> list[int]:
        begin_ns = time.monotonic_ns()
        frame = reader.read(messages[number % len(messages)])
        read_ns = time.monotonic_ns() - begin_ns
        prediction = pipeline.run(
            frame, top_k=config.output.top_k, threshold=config.output.threshold
        )
        return [read_ns, *prediction.times, time.monotonic_ns() - begin_ns]

    return step


def _do_not_warm_up(_pipeline: Pipeline, _clock: object = None) -> int:
    return 0


def _measure_frames(
    schedule: Schedule,
    config: NodeConfig,
    pipeline: FallbackPipeline,
    step: Step,
    write_row: Callable[[list[int]], None],
) -> dict[str, Any]:
    """Do a step for each frame when it is due; the real-time settings count as for the node."""
    for number, _ in enumerate(pace(schedule.rate_hz, schedule.warm_up_frames)):
        step(number)
    setup = RealTimeSetup(config.real_time)
    setup.apply([], [threading.get_native_id(), *pipeline.native_thread_ids])
    before = resource.getrusage(resource.RUSAGE_SELF)
    for number, due_ns in enumerate(pace(schedule.rate_hz, schedule.frames)):
        write_row([due_ns, time.monotonic_ns(), *step(number)])
    resources = _read_resources(before, max(1, schedule.frames))
    setup.undo()
    return {"resources": resources, "model": _describe_model(config.model, pipeline)}


def _read_resources(before: resource.struct_rusage, frames: int) -> dict[str, float]:
    """Return the ``resources`` of a ``Run``, used by this process since ``before``."""
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt
    return {
        "cpu_ms_per_frame": cpu_s * 1e3 / frames,
        "page_faults_per_frame": faults / frames,
        "memory_mib": read_sample(os.getpid()).own_mib,
        "involuntary_switches_per_frame": (after.ru_nivcsw - before.ru_nivcsw) / frames,
    }


def _describe_model(config: ModelConfig, pipeline: FallbackPipeline) -> dict[str, str]:
    bundle, engine = pipeline.bundle, pipeline.description
    precision = bundle.precision(config.precision)
    file = MODEL_FILES[precision]
    if engine.startswith("ONNX Runtime"):
        file = INT8_ON_CPU if precision == "int8" else MODEL
    sha256 = bundle.files.get(file, bundle.files[MODEL])
    return {"name": bundle.manifest.name, "sha256": sha256, "engine": engine}


if __name__ == "__main__":
    answer(measure)
