# SPDX-License-Identifier: Apache-2.0
"""What happened in a run, seen from the host. All times are steady nanoseconds of the host.

Frames are known by their stamps, which come back in the headers of the results; so round trips
need no clock of the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.hil.packed import Packed
from perception_node.rehearsal.heard import Result

if TYPE_CHECKING:
    from perception_node.bench.camera.fault_schedule import Fault, Interval
    from perception_node.bench.process_watch import ProcessSample


class SentFrame(NamedTuple):
    """One message that the host's camera published.

    Attributes:
        stamp_ns: its header's stamp, nanoseconds since the epoch.
        due_ns: when it should have been published.
        sent_ns: when it was: just before the publish call.
        fault: what was done to it.
        picture: number of the picture that it shows.

    """

    stamp_ns: int
    due_ns: int
    sent_ns: int
    fault: Fault
    picture: int


class Age(NamedTuple):
    """How old a result was when the device published it, as its ~/latency states."""

    stamp_ns: int
    age_ms: float


class DiagnosticChange(NamedTuple):
    """A row of /diagnostics whose level or message is not the one before.

    Attributes:
        time_ns: when it arrived.
        row: its task, such as ``input``.
        level: OK, WARN, ERROR or STALE.
        message: its text.

    """

    time_ns: int
    row: str
    level: str
    message: str


class StepDone(NamedTuple):
    """A step of the scenario that was taken.

    Attributes:
        time_ns: when it began.
        what: ``configure``, ``activate``, ``deactivate``, ``cleanup``, ``kill``.
        seconds: until it was done.
        problem: why it failed; empty if it did not.

    """

    time_ns: int
    what: str
    seconds: float
    problem: str


class StateChange(NamedTuple):
    """The device's lifecycle state from here on; ``unreachable`` while nobody answers."""

    time_ns: int
    state: str


@dataclass
class HilRecord:
    """Everything that was played and heard.

    Attributes:
        begin_ns: when the camera began.
        end_ns: when it ended, or was interrupted.
        complete: False if it was interrupted.
        faults: intervals in which the camera failed, on the host's steady clock.
        sent, answers, diagnostics, steps, states: in the order of their time.
        device: what the device says of itself: ``method`` (of ~/vision_info), ``host`` and others.
        log: lines of the node's log, where the host started it; empty otherwise.
        ages: in the order of arrival; empty where the scenario does not judge them.
        samples: looks at the node's process once a second, where the host started it and the
            scenario judges them.
        skipped: frames that this host could not send in time, and did not send.
        held_back: when frames were due that were not sent because the publish call before did not
            return: of a network that takes nothing, for example. They count as not answered.
        unexpected_ends: how often the node's process ended by itself, where the host started it.
        exit_code: of the node after SIGTERM, where the host started it; None otherwise.

    """

    begin_ns: int = 0
    end_ns: int = 0
    complete: bool = False
    faults: list[Interval] = field(default_factory=list)
    sent: Packed[SentFrame] = field(default_factory=lambda: Packed(SentFrame, "qqqoq"))
    answers: Packed[Result] = field(default_factory=lambda: Packed(Result, "qqodo"))
    ages: Packed[Age] = field(default_factory=lambda: Packed(Age, "qd"))
    diagnostics: list[DiagnosticChange] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    held_back: list[int] = field(default_factory=list)
    device: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    samples: list[ProcessSample] = field(default_factory=list)
    skipped: int = 0
    unexpected_ends: int = 0
    exit_code: int | None = None
