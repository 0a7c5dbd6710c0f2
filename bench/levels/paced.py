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

from perception_node.bench.process_watch import read_sample
from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.model.bundle import INT8_ON_CPU, MODEL, MODEL_FILES
from perception_node.system.process import keep_large_blocks, use_one_opencv_thread
from perception_node.system.realtime import RealTimeSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.config.sections import ModelConfig
    from perception_node.engines.fallback import FallbackPipeline


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


class Usage(NamedTuple):
    """What this process has used so far."""

    cpu_ms: float
    page_faults: int
    involuntary_switches: int

    @classmethod
    def read(cls) -> Usage:
        """Ask the kernel."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_ms = (used.ru_utime + used.ru_stime) * 1e3
        return cls(cpu_ms, used.ru_minflt + used.ru_majflt, used.ru_nivcsw)

    def per_frame(self, before: Usage, frames: int) -> dict[str, float]:
        """Return the ``resources`` of a ``Run``, used since ``before``."""
        shares = [(b - a) / max(1, frames) for a, b in zip(before, self, strict=True)]
        return {
            "cpu_ms_per_frame": shares[0],
            "page_faults_per_frame": shares[1],
            "memory_mib": read_sample(os.getpid()).own_mib,
            "involuntary_switches_per_frame": shares[2],
        }


def prepare_process() -> None:
    """Set this process up as the node does before its first frame."""
    keep_large_blocks()
    use_one_opencv_thread()


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


def measure_frames(
    schedule: Schedule,
    config: NodeConfig,
    pipeline: FallbackPipeline,
    step: Callable[[int], list[int]],
    write_row: Callable[[list[int]], None],
) -> dict[str, Any]:
    """Do a step for each frame, and write when it was due, began, and how long its stages took.

    Args:
        schedule: when.
        config: its real-time settings count for this process as for the node's.
        pipeline: what is measured.
        step: gets the frame's number and returns nanoseconds.
        write_row: gets ``[due_ns, begin_ns, *step(number)]``, warm-up excluded.

    Returns:
        ``resources`` of a ``Run``, and ``model`` of a ``Report``.

    """
    for number, _ in enumerate(pace(schedule.rate_hz, schedule.warm_up_frames)):
        step(number)
    setup = RealTimeSetup(config.real_time)
    setup.apply([], [threading.get_native_id(), *pipeline.native_thread_ids])
    before = Usage.read()
    for number, due_ns in enumerate(pace(schedule.rate_hz, schedule.frames)):
        write_row([due_ns, time.monotonic_ns(), *step(number)])
    resources = Usage.read().per_frame(before, schedule.frames)
    setup.undo()
    return {"resources": resources, "model": _describe_model(config.model, pipeline)}


def _describe_model(config: ModelConfig, pipeline: FallbackPipeline) -> dict[str, str]:
    bundle, engine = pipeline.bundle, pipeline.description
    file = MODEL_FILES[config.precision]
    if engine.startswith("ONNX Runtime"):
        file = INT8_ON_CPU if config.precision == "int8" else MODEL
    sha256 = bundle.files.get(file, bundle.files[MODEL])
    return {"name": bundle.manifest.name, "sha256": sha256, "engine": engine}
