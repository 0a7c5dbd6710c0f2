# SPDX-License-Identifier: Apache-2.0
"""What the node says of itself in /diagnostics: levels and words, decided without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from perception_node.engines.base import describe_loss

if TYPE_CHECKING:
    from perception_node.flow.accounts import FrameCounts
    from perception_node.system.grants import Grant


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


def inference_status(now: FrameCounts, before: FrameCounts, infer_ns: int | None) -> Status:
    """Judge the work: do frames become classifications?

    Args:
        now: the counters of all cameras together.
        before: the same one period ago.
        infer_ns: how long the last inference took; None before the first.

    """
    values = {
        "published": str(now.published),
        "failed": str(now.failed),
        "in flight": str(now.in_flight),
        "last inference (ms)": "none yet" if infer_ns is None else f"{infer_ns / 1e6:.2f}",
    }
    failed = now.failed - before.failed
    if failed:
        return Status("inference", Level.ERROR, f"{failed} frame(s) failed; see the log", values)
    return Status("inference", Level.OK, "frames are classified", values)


def loading_statuses(phase: str, elapsed_s: float) -> list[Status]:
    """Say what the node is at while it loads its model."""
    message = f"configuring: {phase}, {elapsed_s:.0f} s"
    return [
        Status("input", Level.WARN, "the node is configuring", {}),
        Status("engine", Level.WARN, message, {"configuring": phase}),
    ]


def engine_status(
    model: str,
    engine: str,
    reason: str,
    lost: Exception | None,
    *,
    outlook: str | None = None,
) -> Status:
    """Say what really runs, why, and whether it is what was chosen.

    Args:
        model: the bundle's name.
        engine: description of the engine that runs.
        reason: why it was chosen.
        lost: why the chosen engine was given up and another runs; None if it was not.
        outlook: what comes where no engine is left; None where one runs.

    """
    values = {"model": model, "engine": engine, "chosen because": reason}
    if lost is None:
        return Status("engine", Level.OK, engine, values)
    why = describe_loss(lost)
    if outlook is not None:
        message = f"no engine is left ({why}); {outlook}"
        return Status("engine", Level.ERROR, message, values)
    message = f"degraded: {engine} took over ({why}); clean up and configure"
    return Status("engine", Level.WARN, message, values)


def process_status(grants: list[Grant]) -> Status:
    """Say which of the real-time settings that were asked for the system has granted."""
    values = {grant.what: grant.problem or "granted" for grant in grants}
    refused = [grant for grant in grants if not grant.granted]
    if refused:
        return Status("process", Level.WARN, "; ".join(map(str, refused)), values)
    message = "real-time settings are granted" if grants else "no real-time setting is asked for"
    return Status("process", Level.OK, message, values)


def inactive_status(state: str) -> Status:
    """Say that the node is not active."""
    return Status("input", Level.WARN, f"the node is {state}; activate it to classify", {})
