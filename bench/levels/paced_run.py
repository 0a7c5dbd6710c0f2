# SPDX-License-Identifier: Apache-2.0
"""The side of a paced measurement that watches: from the rows of a process to a ``Run``."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.bench.camera.load import Load
from perception_node.bench.levels.measuring_process import run_measurement
from perception_node.bench.levels.node_level import RunInterrupted
from perception_node.bench.levels.node_run import (
    FEWEST_FRAMES,
    HIGHEST_STOLEN_SHARE,
    LEAST_KEPT_RATE,
)
from perception_node.bench.process_watch import read_stolen_time
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import Run, Timeline
from perception_node.bench.reporting.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from perception_node.bench.levels.paced import Schedule

    OnProgress = Callable[[Progress], None]

RECENT_NS = 10_000_000_000
REPORT_PERIOD_S = 0.25


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
        on_progress: OnProgress | None = None,
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
        self._recent: deque[tuple[int, int]] = deque()
        self._missed = 0
        self._reported_s = 0.0

    def measure(self, module: str, task: dict[str, Any]) -> Run:
        """Run the process to its end.

        Raises:
            ConfigError, EnvironmentLacks: see ``run_measurement``.
            RunInterrupted: Ctrl-C; holds what was measured so far.

        """
        before = read_stolen_time()
        try:
            result = run_measurement(module, {**task, "schedule": list(self._schedule)}, self._add)
        except KeyboardInterrupt:
            raise RunInterrupted(self._make_run({}, ()) if self._ages_ns else None) from None
        share = before.share_until(read_stolen_time())
        remark = f"{share:.1%} of the processor time was taken by the host of this machine"
        remarks = (remark,) if share > HIGHEST_STOLEN_SHARE else ()
        return self._make_run(result["resources"], remarks)

    def _make_run(self, resources: dict[str, float], remarks: tuple[str, ...]) -> Run:
        count, timeline = self._count(), self._timeline()
        return Run(
            self._subject,
            self._stages,
            count,
            resources,
            timeline,
            (*self._judge_rate(), *remarks),
        )

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
        age_ns = durations_ns[-1]
        self._due_ns.append(due_ns)
        self._begin_ns.append(begin_ns)
        self._ages_ns.append(age_ns)
        self._missed += begin_ns - due_ns + age_ns > self._deadline_ns
        if self._on_progress is not None:
            self._recent.append((begin_ns, age_ns))
            while self._recent[0][0] < begin_ns - RECENT_NS:
                self._recent.popleft()
            if time.monotonic() - self._reported_s >= REPORT_PERIOD_S:
                self._reported_s = time.monotonic()
                self._on_progress(self._progress())

    def _count(self) -> dict[str, int]:
        sent = len(self._ages_ns)
        return {"sent": sent, "answered": sent, "missed": self._missed}

    def _timeline(self) -> Timeline:
        return Timeline(
            [(due_ns - self._due_ns[0]) / 1e9 for due_ns in self._due_ns],
            [age_ns / 1e6 for age_ns in self._ages_ns],
        )

    def _progress(self) -> Progress:
        begins_ns, ages_ns = zip(*self._recent, strict=True)
        lasted_s = (begins_ns[-1] - begins_ns[0]) / 1e9
        rate_hz = (len(begins_ns) - 1) / lasted_s if lasted_s > 0 else float("nan")
        sent, total = len(self._ages_ns), self._schedule.frames
        return Progress(
            sent=sent,
            answered=sent,
            missed=self._missed,
            rate_hz=rate_hz,
            p99_ms=float(np.percentile(ages_ns, 99)) / 1e6,
            seconds_left=(total - sent) / (self._schedule.rate_hz or rate_hz),
            total=total,
        )


def to_task(load: Load, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return load and parameters as plain values."""
    values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(load).items()}
    return {"load": values, "parameters": dict(parameters)}


def read_load(task: dict[str, Any]) -> Load:
    """Return the load of a task that came as JSON.

    Raises:
        ConfigError, BagError: it cannot be played.

    """
    values = task["load"]
    places = {name: Path(values[name]) for name in ("bag", "images") if values[name]}
    return Load(**{**values, **places})
