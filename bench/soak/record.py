# SPDX-License-Identifier: Apache-2.0
"""What a node said during a soak, kept in little memory however long it takes."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import NamedTuple


class Alarm(NamedTuple):
    """A row of /diagnostics that was not OK, with the time of its arrival."""

    time_ns: int
    task: str
    level: int
    message: str


@dataclass
class SoakRecord:
    """Everything that was heard; times are nanoseconds since the epoch, as stamps are.

    Attributes:
        stamps_ns: of the results, in the order of arrival.
        arrivals_ns: when they arrived.
        classes: their best classes.
        aged_stamps_ns: stamps of the images that ~/latency calls published.
        ages_ms: their ages, as ~/latency states them.
        alarms: rows of /diagnostics that were not OK; those that are stale are none.
        last_levels: the level of each row of the last /diagnostics; those after the end of the
            camera do not count.

    """

    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    arrivals_ns: array[int] = field(default_factory=lambda: array("q"))
    classes: array[int] = field(default_factory=lambda: array("q"))
    aged_stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    ages_ms: array[float] = field(default_factory=lambda: array("d"))
    alarms: list[Alarm] = field(default_factory=list)
    last_levels: dict[str, int] = field(default_factory=dict)
