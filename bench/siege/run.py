# SPDX-License-Identifier: Apache-2.0
"""Besiege real processes: attack and calm in turn, and note all that is seen of them."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.bench.process_watch import (
    forget_peak,
    look_at,
    read_busy_s,
    read_memory_mib,
)
from perception_node.bench.siege.asking import Repeating
from perception_node.bench.siege.attack import Until
from perception_node.bench.siege.pictures import make_pictures
from perception_node.bench.siege.plan import CALM_S, SiegePlan
from perception_node.bench.siege.record import SECOND_NS, Ended, Phase, SiegeRecord, Subject
from perception_node.bench.siege.scene import build_scene
from perception_node.ros.session import open_session
from perception_node.system.resources import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from perception_node.bench.siege.attack import Attack
    from perception_node.bench.siege.scene import Scene
    from perception_node.rehearsal.node_process import Program
    from perception_node.system.signals import StopEvent

    Stop = StopEvent | threading.Event
    Machine = tuple[int, float, float]

LOOKS_HZ, POLL_S = 5.0, 0.1
BUSY_PERIOD_S, MOST_BUSY = 1.0, 0.5  # the share of the processors that others may take
LAST_S = 2.0  # that a process which was asked to end has for it
FIRST = Phase((), 0, 0)
OVERDUE_S = 60.0  # an attack that does not return so long after its end is broken


class Siege:
    """One siege: warm-up, then attacks and calm in turn.

    Attributes:
        record: what was seen so far.

    """

    def __init__(self, plan: SiegePlan, stop: Stop, command: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            plan: what to do.
            stop: ends it early.
            command: what starts a node, without ROS arguments; empty for the node as it is.

        """
        self.record = SiegeRecord()
        self._plan, self._stop, self._command = plan, stop, command
        self._end_s = 0.0
        self._unjudged: list[Phase] = []

    def run(self, console: Console) -> SiegeRecord:
        """Start everything, besiege it, end everything.

        Raises:
            EnvironmentLacks: something does not start.

        """
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bundle = folder / "bundle"
            shutil.copytree(find_model(""), bundle)
            pictures = make_pictures(bundle)
            stack.enter_context(open_session("perception_siege"))
            scene = build_scene(stack, pictures, bundle, self._stop.is_set, self._command)
            self.record.subjects = [Subject(target.label) for target in scene.targets]
            watch = stack.enter_context(Watch(scene, self.record, self._stop))
            self._end_s = time.monotonic() + self._plan.seconds
            self._rest(self._plan.warm_up_s, watch)
            watch.begin()
            self._besiege(scene, watch, console)
            self._finish(scene, watch)
        return self.record

    def _besiege(self, scene: Scene, watch: Watch, console: Console) -> None:
        first_calm_s = self._plan.warm_up_s / 2
        self._rest(first_calm_s, watch)
        watch.note_peaks()
        for number, attacks in enumerate(self._plan.phases()):
            takes_s = max(attack.seconds for attack in attacks) + CALM_S
            if time.monotonic() + takes_s > self._end_s or self._is_over(watch):
                break
            self._attack(attacks, number, scene, console)
            self._rest(CALM_S, watch)
            watch.note_peaks()

    def _attack(
        self, attacks: Sequence[Attack], number: int, scene: Scene, console: Console
    ) -> None:
        """Let attacks run at the same time, and leave the nodes active."""
        begin_ns, names = time.time_ns(), tuple(attack.name for attack in attacks)
        left_s = self._end_s - time.monotonic()
        console.print(f"{left_s:5.0f} s left: {' + '.join(names)}")
        runs = [_Run(attack, scene, f"{self._plan.seed}/{number}") for attack in attacks]
        for run in runs:
            run.thread.start()
        while any(run.thread.is_alive() for run in runs):
            if self._stop.wait(POLL_S):
                for run in runs:
                    run.until.end()
            late = [r for r in runs if r.until.overdue_s > OVERDUE_S and r.thread.is_alive()]
            if late:
                self.record.broken += [f"{r.attack.name} does not end{r.place()}" for r in late]
                break
        for run in runs:
            self.record.inputs[run.attack.name] += run.inputs
            self.record.broken += run.broken
        if any(attack.changes_parameters for attack in attacks):
            scene.reset()
        if any(attack.changes_state for attack in attacks):
            scene.bring_up()
        phase = Phase(names, begin_ns, time.time_ns())
        self.record.phases.append(phase)
        if any(attack.changes_parameters for attack in attacks):
            self._unjudged.append(phase)

    def _rest(self, seconds: float, watch: Watch) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not self._is_over(watch):
            self._stop.wait(min(POLL_S, max(0.0, end_s - time.monotonic())))

    def _is_over(self, watch: Watch) -> bool:
        return self._stop.is_set() or watch.has_lost

    def _finish(self, scene: Scene, watch: Watch) -> None:
        """End the processes, and note what they have answered and logged."""
        self.record.interrupted = self._stop.is_set()
        watch.end()
        for node in scene.nodes:
            node.camera.stop()
        scene.server.client.stop()
        scene.wait_until_quiet()
        for subject, target in zip(self.record.subjects, scene.targets, strict=True):
            program = target.program
            if self.record.interrupted:  # Ctrl-C has reached it, too; a second signal may kill it
                scene.driver.wait(partial(_has_ended, program), LAST_S)
            if subject.ended is None:
                subject.exit_code = program.end()
            subject.log = program.log()
            target.fill(subject, self._unjudged)
        self.record.broken += scene.accepted


def _has_ended(program: Program) -> bool:
    return program.exit_code is not None


class _Run:
    """One attack on a thread of its own."""

    def __init__(self, attack: Attack, scene: Scene, seed: str) -> None:
        self.attack, self.inputs, self.broken = attack, 0, list[str]()
        self.until = Until(attack.seconds)
        self._scene = scene
        self._source = random.Random(f"{seed}/{attack.name}")
        self.thread = threading.Thread(target=self._run, name=attack.name, daemon=True)

    def place(self) -> str:
        """Say where the thread is."""
        frame = sys._current_frames().get(self.thread.ident or 0)  # noqa: SLF001 - as faulthandler
        steps = traceback.extract_stack(frame)[-3:]
        return "".join(
            f", {step.name} ({Path(step.filename).name}:{step.lineno})" for step in steps
        )

    def _run(self) -> None:
        try:
            for _ in self.attack.run(self._scene, self._source, self.until):
                self.inputs += 1
        except Exception as error:  # noqa: BLE001 - an attack that fails attacks nothing: judged
            self.broken.append(f"{self.attack.name}: {type(error).__name__}: {error}")


class Watch(Repeating):
    """Looks at the processes all the time."""

    def __init__(self, scene: Scene, record: SiegeRecord, stop: Stop) -> None:
        """Prepare; whoever ends after ``stop`` was set was asked to, as Ctrl-C reaches all."""
        super().__init__("watch", LOOKS_HZ)
        self._scene, self._record, self._asked = scene, record, stop
        self._before = self._look_at_machine()

    @property
    def has_lost(self) -> bool:
        """Whether one of the processes has ended: nothing more can be learnt of it."""
        return any(subject.ended for subject in self._record.subjects)

    def begin(self) -> None:
        """End the warm-up: what each process has now is what it needs."""
        self._record.begin_ns = time.time_ns()
        for subject, program in self._pairs():
            subject.samples.clear()
            with suppress(OSError, KeyError):  # it has ended, which is seen by itself
                subject.calm_mib = read_memory_mib(program.pid, "VmRSS")
                forget_peak(program.pid)

    def note_peaks(self) -> None:
        """Note the most memory since the last time, which is that of one attack and its calm."""
        before = (self._record.phases or [FIRST])[-1]
        for subject, program in self._pairs():
            with suppress(OSError, KeyError):
                subject.peaks.append((before, read_memory_mib(program.pid, "VmHWM")))
                forget_peak(program.pid)

    def end(self) -> None:
        """Stop looking."""
        self.stop()
        self._record.end_ns = time.time_ns()

    def do(self) -> None:
        """Look at each process, and once a second at the machine."""
        for subject, program in self._pairs():
            self._look(subject, program)
        before = self._before
        if time.time_ns() - before[0] > BUSY_PERIOD_S * SECOND_NS:
            now = self._before = self._look_at_machine()
            if now[1] - before[1] > MOST_BUSY * (now[2] - before[2]):
                self._record.busy.append((before[0], now[0]))

    def _pairs(self) -> list[tuple[Subject, Program]]:
        programs = [target.program for target in self._scene.targets]
        return list(zip(self._record.subjects, programs, strict=True))

    def _look_at_machine(self) -> Machine:
        """Return the time, how long others have worked, and how long there were processors."""
        own_s = time.process_time()
        for _, program in self._pairs():
            with suppress(OSError):
                own_s += program.cpu_s()
        busy_s, total_s = read_busy_s()
        return time.time_ns(), busy_s - own_s, total_s

    def _look(self, subject: Subject, program: Program) -> None:
        sample, time_ns = look_at(program.pid), time.time_ns()
        code = program.exit_code
        if code is not None and subject.ended is None and not self._asked.is_set():
            last = program.last_line
            subject.ended = Ended(time_ns, code, last[:300])
        elif sample is not None:
            subject.samples.append((time_ns, sample))
