# SPDX-License-Identifier: Apache-2.0
"""Bare inference, and the pipeline without ROS, at the pace of a camera: what comes of a process.

Bare inference is the limit of everything that is built around it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.bench.camera.load import Load
from perception_node.bench.levels.child_process import run_measurement
from perception_node.bench.levels.node_level import RunInterrupted
from perception_node.bench.levels.node_run import (
    FEWEST_FRAMES,
    LEAST_KEPT_RATE,
    judge_stolen_time,
)
from perception_node.bench.levels.paced import Schedule
from perception_node.bench.process_watch import read_stolen_time
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.live_table import Progress
from perception_node.bench.reporting.measurement import INFER, Run, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MODULE = "perception_node.bench.levels.paced"
RECENT_NS = 10_000_000_000
REPORT_PERIOD_S = 0.25
STEADY = slice(20, 50)  # inferences of a process


def measure_paced(
    load: Load,
    subject: str,
    deadline_ms: float,
    parameters: Mapping[str, Any],
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Run:
    """Measure a subject in a fresh process, on the thread and with the settings of the node.

    Bare inference gets the first picture of the load, preprocessed. The pipeline classifies the
    messages of the load; its ``total`` is from the serialized message to the hypotheses. It holds
    the way to the engine's thread and back, which is no stage of its own, and decides what is
    missed. Of several cameras, the frames of all come evenly in time.

    Args:
        load: what is played.
        subject: bare or pipeline.
        deadline_ms: what counts as missed.
        parameters: of the node: ``model``, ``engine``, ``threads`` and so on.
        on_progress: called a few times a second.

    Raises:
        ConfigError: a parameter, the load or the model cannot be used.
        EnvironmentLacks: the engine that was asked for is not here.
        RunInterrupted: Ctrl-C; holds what was measured so far.

    """
    schedule = Schedule(
        load.rate_hz * load.cameras, load.total, load.warm_up_frames * load.cameras
    )
    first = "read" if load.transport == "raw" else "decode"
    stages = (
        (INFER,) if subject == "bare" else (first, "preprocess", INFER, "postprocess", "total")
    )
    run = PacedRun(subject, stages, schedule, deadline_ms, on_progress)
    return run.measure(_to_task(subject, load, parameters, schedule))


def describe_model(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return ``model`` of a ``Report``: name, sha256 of its file, what it runs on.

    Raises:
        ConfigError, EnvironmentLacks: as ``measure_paced``.

    """
    task = _to_task("bare", Load(), parameters, Schedule(0.0, 0, 0))
    model: dict[str, str] = run_measurement(MODULE, task)["model"]
    return model


def measure_first_inference(load: Load, parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Return the nanoseconds of the first inference and of a steady one, in a fresh process.

    The node hides the first ones: it classifies black images while it is configured. A steady one
    is the median of the 20th to the 50th.

    Raises:
        ConfigError, EnvironmentLacks: as ``measure_paced``.

    """
    rows: list[list[int]] = []
    task = _to_task("pipeline", load, parameters, Schedule(0.0, STEADY.stop, 0), is_cold=True)
    run_measurement(MODULE, task, rows.append)
    times_ns = [infer_ns for _due, _begin, _read, _preprocess, infer_ns, *_ in rows]
    return times_ns[0], round(median(times_ns[STEADY]))


def _to_task(
    subject: str,
    load: Load,
    parameters: Mapping[str, Any],
    schedule: Schedule,
    *,
    is_cold: bool = False,
) -> dict[str, Any]:
    return {
        "subject": subject,
        "load": asdict(load),
        "parameters": dict(parameters),
        "schedule": schedule,
        "is_cold": is_cold,
    }


class PacedRun:
    """Collects what the process of one run writes.

    Each row is ``[due_ns, begin_ns, ...]`` with the nanoseconds of each stage; the last stage is
    the age. A frame that had to wait for those before it is missed by the time it was due.
    """

    def __init__(
        self,
        subject: str,
        stages: tuple[str, ...],
        schedule: Schedule,
        deadline_ms: float,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Prepare; ``on_progress`` is called a few times a second."""
        self._subject = subject
        self._schedule = schedule
        self._deadline_ns = deadline_ms * 1e6
        self._on_progress = on_progress
        self._stages = {name: Durations() for name in stages}
        self._due_ns: list[int] = []
        self._begin_ns: list[int] = []
        self._ages_ns: list[int] = []
        self._missed = 0
        self._reported_s = 0.0

    def measure(self, task: dict[str, Any]) -> Run:
        """Run the process to its end; raises as ``measure_paced``."""
        before = read_stolen_time()
        try:
            result = run_measurement(MODULE, task, self._add)
        except KeyboardInterrupt:
            raise RunInterrupted(self._make_run({}, ()) if self._ages_ns else None) from None
        return self._make_run(result["resources"], judge_stolen_time(before, read_stolen_time()))

    def _make_run(self, resources: dict[str, float], remarks: Iterable[str]) -> Run:
        sent = len(self._ages_ns)
        timeline = Timeline(
            [(due_ns - self._due_ns[0]) / 1e9 for due_ns in self._due_ns],
            [age_ns / 1e6 for age_ns in self._ages_ns],
        )
        counts = {"sent": sent, "answered": sent, "missed": self._missed}
        remarks = (*self._judge_rate(), *remarks)
        return Run(self._subject, self._stages, counts, resources, timeline, remarks)

    def _judge_rate(self) -> Iterable[str]:
        """Say whether it fell behind its schedule, which the times of the stages do not show."""
        due_s, took_s = ((ns[-1] - ns[0]) / 1e9 for ns in (self._due_ns, self._begin_ns))
        frames = len(self._due_ns) - 1
        if frames + 1 >= FEWEST_FRAMES and due_s < LEAST_KEPT_RATE * took_s:
            kept = f"{frames / took_s:.1f} of {frames / due_s:.1f} frames per second"
            yield f"{self._subject} kept up with {kept} only; the stages are without the waiting"

    def _add(self, row: list[int]) -> None:
        due_ns, begin_ns, *durations_ns = row
        for durations, duration_ns in zip(self._stages.values(), durations_ns, strict=True):
            durations.add(duration_ns)
        self._due_ns.append(due_ns)
        self._begin_ns.append(begin_ns)
        self._ages_ns.append(durations_ns[-1])
        self._missed += begin_ns - due_ns + durations_ns[-1] > self._deadline_ns
        if time.monotonic() - self._reported_s >= REPORT_PERIOD_S:
            self._reported_s = time.monotonic()
            self._on_progress(self._progress())

    def _progress(self) -> Progress:
        """Say how far it is; rate and percentile are those of the last ten seconds."""
        sent, total, begins_ns = len(self._ages_ns), self._schedule.frames, self._begin_ns
        first = bisect_left(begins_ns, begins_ns[-1] - RECENT_NS)
        lasted_s = (begins_ns[-1] - begins_ns[first]) / 1e9
        return Progress(
            sent=sent,
            answered=sent,
            missed=self._missed,
            rate_hz=(sent - first - 1) / lasted_s if lasted_s > 0 else float("nan"),
            p99_ms=float(np.percentile(self._ages_ns[first:], 99)) / 1e6,
            seconds_left=(total - sent) / self._schedule.rate_hz,
            total=total,
        )
