# SPDX-License-Identifier: Apache-2.0
"""What was seen of a siege; times are nanoseconds since the epoch, as stamps are."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from perception_node.bench.process_watch import ProcessSample

SECOND_NS = 1_000_000_000
# What belongs to an attack after its end: what it has left waiting is worked off, an engine that
# was given up is replaced, a discovery is made. From then on a second is calm.
RECOVERY_S = 3.0


class Phase(NamedTuple):
    """One turn of attacks, which ran at the same time."""

    attacks: tuple[str, ...]
    begin_ns: int
    end_ns: int

    def __str__(self) -> str:
        """Return the names of the attacks."""
        return " + ".join(self.attacks) or "the start"


class Calm(NamedTuple):
    """A time in which nothing attacks, and for so long that the last attack is overcome."""

    after: Phase
    begin_ns: int
    end_ns: int


class Ended(NamedTuple):
    """A process that has ended unasked."""

    time_ns: int
    code: int
    last_line: str


@dataclass
class Subject:
    """What was seen of one process: a node or the server.

    Attributes:
        name: such as ``node /raw/perception``.
        answers_ns: when the right answers to good pictures arrived.
        wrong: answers that were not right, in words, with their numbers.
        held_up: from when to when this process, which asks, could not ask in time.
        samples: looks at the process, in order, with their times.
        calm_mib: its memory (VmRSS) at the end of the warm-up.
        peaks: the most memory (VmHWM) of each attack and the calm after it, and of the first calm.
        ended: how it ended too early, if it did.
        exit_code: after SIGTERM at the end; None if it had ended before.
        log: its lines.
        frames: whether it accounts for frames.
        published: results that were heard, if it is a node.
        ages_ms: of the results, as the node states them.
        deadline_ms: the node's.

    """

    name: str
    answers_ns: array[int] = field(default_factory=lambda: array("q"))
    wrong: Counter[str] = field(default_factory=Counter)
    held_up: list[tuple[int, int]] = field(default_factory=list)
    samples: list[tuple[int, ProcessSample]] = field(default_factory=list)
    calm_mib: float = 0.0
    peaks: list[tuple[Phase, float]] = field(default_factory=list)
    ended: Ended | None = None
    exit_code: int | None = None
    log: list[str] = field(default_factory=list)
    frames: bool = False
    published: int = 0
    ages_ms: array[float] = field(default_factory=lambda: array("d"))
    deadline_ms: float = 0.0


@dataclass
class SiegeRecord:
    """Everything that was seen.

    Attributes:
        begin_ns: the end of the warm-up.
        end_ns: when nothing was watched any more.
        phases: the attacks that were made, in order.
        inputs: how many each attack has made: messages, requests, transitions.
        broken: attacks that could not be made, and why; they prove nothing.
        subjects: the processes.
        busy: from when to when others took more than half of the machine's processors.
        interrupted: somebody has ended it early.

    """

    begin_ns: int = 0
    end_ns: int = 0
    phases: list[Phase] = field(default_factory=list)
    inputs: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)
    interrupted: bool = False

    def calms(self) -> list[Calm]:
        """Return the calm times: before the first attack, between two, after the last."""
        recovery_ns = int(RECOVERY_S * SECOND_NS)
        first = Phase((), self.begin_ns, self.begin_ns - recovery_ns)
        before = [first, *self.phases]
        ends_ns = [*(phase.begin_ns for phase in self.phases), self.end_ns]
        return [
            Calm(phase, phase.end_ns + recovery_ns, end_ns)
            for phase, end_ns in zip(before, ends_ns, strict=True)
            if phase.end_ns + recovery_ns < end_ns
        ]

    def phase_at(self, time_ns: int) -> Phase:
        """Return the attack that was on at a time, or was the last before it."""
        begun = [phase for phase in self.phases if phase.begin_ns <= time_ns]
        return begun[-1] if begun else Phase((), self.begin_ns, self.begin_ns)
