# SPDX-License-Identifier: Apache-2.0
"""What the rows of a node's /diagnostics come to, ready for JSON.

Another version of the node may have written them: what is missing or makes no sense is None.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perception_node.config.sections import MAX_CAMERAS
from perception_node.flow.accounts import OUTCOMES
from perception_node.flow.health import Level
from perception_node.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.flow.health import Status

LEVELS = {Level.OK: "ok", Level.WARN: "warn", Level.ERROR: "error", Level.STALE: "ok"}
MOST_CHARACTERS, MOST_BINS, MOST_DIGITS, MOST_ALARMS = 500, 1000, 18, 100


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera of the node.

    Attributes:
        topic: of its images.
        results_topic: of its classifications; empty if the node does not say.
        facts: rate, deadline, counters, ages and histogram, as the live view sends them.

    """

    topic: str
    results_topic: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The whole node.

    Attributes:
        is_active: it works on images.
        level: ok, warn or error: that of the worst row.
        summary: one line for people.
        alarms: rows that are warnings or errors; at most 100.
        engine: what runs; None if the node is not configured.
        cameras: in the node's order; empty while it is not active.

    """

    is_active: bool
    level: str
    summary: str
    alarms: list[dict[str, str]]
    engine: dict[str, str] | None
    cameras: tuple[CameraStatus, ...]

    @property
    def is_degraded(self) -> bool:
        """The engine was lost, and another took over or none is left."""
        return self.engine is not None and self.engine["level"] != "ok"


def read_status(rows: Sequence[Status]) -> NodeStatus:
    """Read all rows of one message."""
    by_task = {row.task: row for row in rows}
    # A stale row has nothing to judge; the row input says why.
    loud = [row for row in rows if LEVELS[row.level] != "ok"]
    worst = max(loud, key=lambda row: row.level, default=None)
    inputs = [row for row in rows if row.task.startswith("input") and "topic" in row.values]
    is_alone = len(inputs) == 1
    cameras = tuple(_read_camera(r, by_task, is_alone=is_alone) for r in inputs[:MAX_CAMERAS])
    quiet = "images are classified in time"
    if not any(camera.facts["counters"]["published"] for camera in cameras) and inputs:
        quiet = inputs[0].message
    return NodeStatus(
        is_active=bool(inputs),
        level="ok" if worst is None else LEVELS[worst.level],
        summary=cut(quiet if worst is None else worst.message),
        alarms=[
            {"task": cut(row.task), "level": LEVELS[row.level], "message": cut(row.message)}
            for row in loud[:MOST_ALARMS]
        ],
        engine=_read_engine(by_task.get("engine")),
        cameras=cameras,
    )


def _read_engine(row: Status | None) -> dict[str, str] | None:
    if row is None:
        return None
    return {
        "model": cut(row.values.get("model", "")),
        "description": cut(row.values.get("engine", "")),
        "reason": cut(row.values.get("chosen because", "")),
        "level": LEVELS[row.level],
    }


def _read_camera(row: Status, by_task: dict[str, Status], *, is_alone: bool) -> CameraStatus:
    of = row.task.removeprefix("input")
    # An older node says only of all cameras together what was published and what failed.
    values = {**by_task["inference"].values} if is_alone and "inference" in by_task else {}
    for task in ("input", "rate", "deadline"):
        if f"{task}{of}" in by_task:
            values.update(by_task[f"{task}{of}"].values)
    ages = {f"{name}_ms": _number(values, f"age {name} (ms)") for name in ("p50", "p99", "max")}
    return CameraStatus(
        topic=cut(row.values["topic"]),
        results_topic=values.get("results", ""),
        facts={
            "rate_hz": _number(values, "rate (Hz)"),
            "deadline_ms": _number(values, "deadline (ms)"),
            "counters": {name: _count(values, name) for name in OUTCOMES},
            "ages": None if None in ages.values() else ages,
            "histogram": _read_histogram(values.get("age histogram", "")),
        },
    )


def _read_histogram(text: str) -> dict[str, Any] | None:
    if len(text) > MOST_BINS * MOST_DIGITS:
        return None
    try:
        read = json.loads(text)
        bin_ms, counts = float(read["bin_ms"]), [int(count) for count in read["counts"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    makes_sense = math.isfinite(bin_ms) and bin_ms > 0.0 and 0 < len(counts) <= MOST_BINS
    if not makes_sense or min(counts) < 0 or max(counts) >= 10**MOST_DIGITS:
        return None
    return {"bin_ms": bin_ms, "counts": counts}


def _number(values: dict[str, str], key: str) -> float | None:
    try:
        number = float(values[key])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _count(values: dict[str, str], key: str) -> int:
    text = values.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0


def cut(text: str) -> str:
    """Return a printable text of bounded length."""
    return printable(text, MOST_CHARACTERS)
