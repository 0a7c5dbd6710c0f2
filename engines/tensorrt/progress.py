# SPDX-License-Identifier: Apache-2.0
"""How far a build is: TensorRT's nested phases become one fraction and the name of a phase."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from perception_node.engines.tensorrt.api import IProgressMonitor, TensorRt


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Where a build is.

    Attributes:
        phase: what is being done, in words.
        fraction: 0.0 to 1.0 of the work that TensorRT announced; None where it is not known.
        elapsed_s: seconds since the build began.

    """

    phase: str
    fraction: float | None
    elapsed_s: float


@dataclass(slots=True)
class _Phase:
    steps: int
    parent: str | None
    done: int = 0


@dataclass(slots=True)
class ProgressReporter:
    """Tells a callback how far a build is, and the build whether to go on.

    Attributes:
        report: gets each progress, on whichever thread TensorRT works.
        cancel: set from any thread, it makes TensorRT give up at its next step.

    """

    report: Callable[[BuildProgress], None]
    cancel: Event
    _start: float = field(default_factory=time.monotonic)
    _phases: dict[str, _Phase] = field(default_factory=dict)

    @property
    def elapsed_s(self) -> float:
        """Seconds since this reporter was made."""
        return time.monotonic() - self._start

    def say(self, phase: str) -> None:
        """Report a phase of our own, whose length nobody knows."""
        self.report(BuildProgress(phase, None, self.elapsed_s))

    def begin(self, name: str, parent: str | None, steps: int) -> None:
        """Note that TensorRT began a phase of so many steps inside another."""
        self._phases[name] = _Phase(max(1, steps), parent)
        self._tell(name)

    def step(self, name: str, step: int) -> bool:
        """Note that a step (0, 1, ...) of a phase is done; return whether to go on."""
        if name in self._phases:
            self._phases[name].done = step + 1
            self._tell(name)
        return not self.cancel.is_set()

    def end(self, name: str) -> None:
        """Note that a phase is over."""
        phase = self._phases.pop(name, None)
        if phase and phase.parent not in self._phases:  # the outermost
            self.report(BuildProgress(name, 1.0, self.elapsed_s))

    def _tell(self, name: str) -> None:
        self.report(BuildProgress(name, self._fraction(name), self.elapsed_s))

    def _fraction(self, name: str) -> float:
        """Return the done part of the outermost phase around ``name``."""
        phase = self._phases[name]
        fraction = min(1.0, phase.done / phase.steps)
        while phase.parent in self._phases:
            phase = self._phases[phase.parent]
            fraction = min(1.0, (phase.done + fraction) / phase.steps)
        return fraction


def make_monitor(trt: TensorRt, reporter: ProgressReporter) -> IProgressMonitor | None:
    """Return what the builder calls, or None where TensorRT is older than 10 and cannot."""
    if not trt.has("IProgressMonitor"):
        return None
    module = trt.module

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined] # imported late
        """Passes TensorRT's calls on; what they raise is printed, and the build given up."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)  # without it the interpreter crashes

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            reporter.begin(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return reporter.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            reporter.end(phase_name)

    return Monitor()
