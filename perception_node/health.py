# SPDX-License-Identifier: Apache-2.0
"""What the node says of itself in /diagnostics: levels and words, decided without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from perception_node.errors import PerceptionError

if TYPE_CHECKING:
    from perception_node.counters import FrameCounts


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True)
class Status:
    """One row of /diagnostics."""

    task: str
    level: Level
    message: str
    values: dict[str, str]


def input_status(
    topic: str, silent_s: float, timeout_s: float, now: FrameCounts, before: FrameCounts
) -> Status:
    """Judge the camera: is it there, and are its images usable?

    Args:
        topic: resolved name of the image topic.
        silent_s: seconds since the last message, or since activation if there was none.
        timeout_s: from here on the camera counts as silent.
        now: the counters.
        before: the counters one period ago.

    """
    values = {
        "topic": topic,
        "received": str(now.received),
        "malformed": str(now.malformed),
        **{f"malformed ({kind})": str(n) for kind, n in sorted(now.malformed_by_kind.items())},
    }
    if silent_s > timeout_s:
        message = f"no image for {silent_s:.1f} s; check the camera and that {topic} is its topic"
        return Status("input", Level.ERROR, message, values)
    if now.malformed > before.malformed:
        message = (
            f"{now.malformed - before.malformed} unusable image(s); see the log for the cause"
        )
        return Status("input", Level.WARN, message, values)
    return Status("input", Level.OK, "images arrive", values)


def inference_status(now: FrameCounts, before: FrameCounts, infer_ms: float | None) -> Status:
    """Judge the work: do frames become classifications?"""
    values = {
        "published": str(now.published),
        "superseded": str(now.superseded),
        "failed": str(now.failed),
        "in flight": str(now.in_flight),
        "last inference (ms)": "none yet" if infer_ms is None else f"{infer_ms:.2f}",
    }
    failed = now.failed - before.failed
    if failed:
        return Status("inference", Level.ERROR, f"{failed} frame(s) failed; see the log", values)
    return Status("inference", Level.OK, "frames are classified", values)


def engine_status(model: str, engine: str, reason: str, lost: Exception | None) -> Status:
    """Say what really runs, why, and whether it is what was chosen.

    Args:
        model: the bundle's name.
        engine: description of the engine that runs.
        reason: why it was chosen.
        lost: why the chosen engine was given up and another runs; None if it was not.

    """
    values = {"model": model, "engine": engine, "chosen because": reason}
    if lost is None:
        return Status("engine", Level.OK, engine, values)
    message = f"degraded: {engine} took over ({describe_loss(lost)}); clean up and configure"
    return Status("engine", Level.WARN, message, values)


def describe_loss(error: Exception) -> str:
    """Return in one line why an engine was given up; a bug is named by its type."""
    if isinstance(error, PerceptionError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def inactive_status(state: str) -> Status:
    """Say that the node is not active."""
    return Status("input", Level.WARN, f"the node is {state}; activate it to classify", {})
