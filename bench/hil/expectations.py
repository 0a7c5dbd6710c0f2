# SPDX-License-Identifier: Apache-2.0
"""What must hold in a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class DiagnosticDemand:
    """A row of /diagnostics that must be seen.

    Attributes:
        row: its task, such as ``input``.
        level: OK, WARN, ERROR or STALE; empty for any.
        contains: a part of its message; empty for any.
        within_s: after the beginning of what it is about.
        during: a fault or a step; empty for the whole run.

    """

    row: str
    level: str = ""
    contains: str = ""
    within_s: float = 2.0
    during: str = ""


@dataclass(frozen=True)
class LeakLimits:
    """What the node's process may have more at the end of a run than after its warm-up.

    Attributes:
        memory_mib: of its own.
        memory_mib_per_h: the slope of that; None: it is not judged, as in a short run.
        shared_mib: memory that it shares, at most at any time. As it comes: the segments of two
            participants (launch/fastdds_profile.xml), which fill up as they are used.
        descriptors: open files and sockets.
        threads: threads.

    """

    memory_mib: float = 10.0
    memory_mib_per_h: float | None = None
    shared_mib: float = 2 * 32.0 + 8.0
    descriptors: float = 0.0
    threads: float = 0.0


@dataclass(frozen=True)
class Expectations:
    """What must hold. None, empty or False: it is not judged.

    Attributes:
        deadline_ms: an answer that comes later counts as missed; None takes the device's.
        settle_s: frames so shortly after a fault or a step are not judged.
        latency_ms: limits of ``p50``, ``p90``, ``p99``, ``max``.
        missed_percent: at most so many frames are answered too late or not at all.
        answered_percent: at least so many are answered, however late.
        never_late: nothing comes that is older than the deadline and the way back.
        arrival_allowance_ms: the way back.
        golden: file of labels that ``perception replay`` wrote.
        agreement_percent: at least so many answers have its label.
        same_labels: answers to the same picture have the same label.
        recovery_s: until the first answer after ``fault``, ``activate`` and ``kill``.
        diagnostics: rows of /diagnostics that must be seen.
        faults_named: rows of /diagnostics name each fault of the camera that lasts long enough,
            and no longer than it does; those that judge the node itself are well at the end.
        no_unexpected_alarms: no others may be seen, but those that faults and steps explain.
        exit_code: of the node, after SIGTERM.
        account_exact: the node's account adds up, and all that it published has come.
        leaks: what the node's process may have more at the end.
        published_age_ms: no result is older when it is published, as ~/latency states it.
        steady_ages: these ages do not grow from the first third of the run to the last.
        expected_log: the node has logged only what faults of a camera explain, and not too often.

    """

    deadline_ms: float | None = None
    settle_s: float = 1.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    missed_percent: float | None = None
    answered_percent: float | None = None
    never_late: bool = False
    arrival_allowance_ms: float = 50.0
    golden: Path | None = None
    agreement_percent: float = 99.0
    same_labels: bool = False
    recovery_s: dict[str, float] = field(default_factory=dict)
    diagnostics: tuple[DiagnosticDemand, ...] = ()
    faults_named: bool = False
    no_unexpected_alarms: bool = False
    exit_code: int | None = None
    account_exact: bool = False
    leaks: LeakLimits | None = None
    published_age_ms: float | None = None
    steady_ages: bool = False
    expected_log: bool = False

    @property
    def needs_ages(self) -> bool:
        """Something is judged by ~/latency."""
        return self.steady_ages or self.published_age_ms is not None
