# SPDX-License-Identifier: Apache-2.0
"""One run of one subject, and how a report writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from perception_node.bench.reporting.durations import Durations
from perception_node.errors import ConfigError


@dataclass(frozen=True)
class Timeline:
    """What became of each frame, in the order in which they were due, warm-up excluded.

    Attributes:
        times_s: when each frame was due, since the first.
        ages_ms: from the publish call to the result; NaN where none came.

    """

    times_s: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One run of one subject.

    Attributes:
        subject: who was measured; see the module.
        stages: durations by stage, warm-up excluded.
        counts: frames ``sent``, ``answered``, ``missed`` (of the deadline, or no answer), and what
            the node's own account says of the others.
        resources: ``cpu_ms_per_frame``, ``page_faults_per_frame``, ``memory_mib``,
            ``involuntary_switches_per_frame``, ``other_threads_ms_per_image``; all of the
            measured process alone.
        timeline: what became of each frame; empty where there are no frames.
        remarks: why this run is not to be trusted, such as stolen processor time; empty if it is.

    """

    subject: str
    stages: dict[str, Durations]
    counts: dict[str, int] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    remarks: tuple[str, ...] = ()


def from_run(run: Run) -> dict[str, Any]:
    """Return the run as JSON knows it: NaN becomes null, what has no value is left out."""
    stages = {
        name: {**_finite(durations.summarize()._asdict()), "histogram": durations.encode()}
        for name, durations in run.stages.items()
    }
    timeline = {
        "times_s": [round(time_s, 4) for time_s in run.timeline.times_s],
        "ages_ms": [None if math.isnan(a) else round(a, 3) for a in run.timeline.ages_ms],
    }
    return {
        "subject": run.subject,
        "stages": stages,
        "counts": run.counts,
        "resources": {name: v for name, v in run.resources.items() if math.isfinite(v)},
        "timeline": timeline,
        "remarks": run.remarks,
    }


def to_run(data: dict[str, Any], place: str) -> Run:
    """Return the run that ``from_run`` wrote.

    Args:
        data: checked by the schema.
        place: where it lies, for messages.

    Raises:
        ConfigError: its parts contradict each other.

    """
    times_s, ages_ms = data["timeline"]["times_s"], data["timeline"]["ages_ms"]
    if len(times_s) != len(ages_ms):
        problem = f"{len(ages_ms)} ages for {len(times_s)} times; one each is needed"
        raise ConfigError(f"{place}.timeline: {problem}")
    return Run(
        subject=data["subject"],
        stages={
            name: _to_durations(stage, f"{place}.stages.{name}")
            for name, stage in data["stages"].items()
        },
        counts={name: int(count) for name, count in data["counts"].items()},
        resources={name: float(value) for name, value in data["resources"].items()},
        timeline=Timeline(times_s, [math.nan if age is None else age for age in ages_ms]),
        remarks=tuple(data["remarks"]),
    )


def _to_durations(stage: dict[str, Any], place: str) -> Durations:
    try:
        durations = Durations.decode(stage["histogram"])
    except ConfigError as error:
        raise ConfigError(f"{place}.histogram: {error}") from error
    if len(durations) != stage["count"]:
        problem = f"{stage['count']}, but the histogram holds {len(durations)}"
        raise ConfigError(f"{place}.count: {problem}")
    missing = [name for name, value in stage.items() if value is None]
    if missing and len(durations):
        raise ConfigError(f"{place}.{missing[0]}: null, which only an empty histogram has")
    return durations


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
