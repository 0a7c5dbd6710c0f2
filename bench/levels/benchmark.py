# SPDX-License-Identifier: Apache-2.0
"""One benchmark: levels and loads one after the other, subjects in turn, into one report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load import HIGHEST_RATE_HZ
from perception_node.bench.levels.node_level import RunInterrupted, measure_node
from perception_node.bench.levels.paced_run import measure_paced
from perception_node.bench.levels.startup_level import measure_start
from perception_node.bench.levels.sweep import count_probe_frames, find_highest_rate
from perception_node.bench.reporting.measurement import INFER, Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.bench.camera.load import Load
    from perception_node.bench.reporting.live_table import LiveTable
    from perception_node.bench.reporting.measurement import Report, Run
    from perception_node.config.parameter import Value

PACED = {"engine": "bare", "pipeline": "pipeline"}  # what is measured at these levels
BARE_FRAMES = 300  # enough for the median of what hardly varies
# A sweep looks around what bare inference allows, which is up to twice as fast back to back.
LOWEST_OF_LIMIT, HIGHEST_OF_LIMIT = 0.3, 2.0
PROBES = 13  # of a sweep, about
NOT_HIGHEST = "a higher rate than this was not tried"


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to measure.

    Attributes:
        levels: of ``measurement.LEVELS``.
        loads: what is played at each level but ``startup``.
        runs: how often each subject has its turn.
        deadline_ms: what counts as missed.
        parameters: of the node.
        baselines: what takes turns with the node.
        is_sweep: search the highest rate that the node keeps up with, in the place of one rate.

    """

    levels: tuple[str, ...]
    loads: tuple[Load, ...]
    runs: int
    deadline_ms: float
    parameters: dict[str, Value] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    is_sweep: bool = False

    @property
    def total_runs(self) -> int:
        """How many runs there will be; of a sweep, about."""
        turns = PROBES if self.is_sweep else self.runs * (2 + len(self.baselines)) + 1
        per_load = {"engine": self.runs, "pipeline": self.runs, "node": turns}
        once = self.runs if "startup" in self.levels else 0
        return once + len(self.loads) * sum(per_load.get(level, 0) for level in self.levels)


class Benchmark:
    """Does what a plan says; after Ctrl-C the report holds what was measured until then."""

    def __init__(self, plan: BenchmarkPlan, report: Report, table: LiveTable) -> None:
        """Prepare to fill ``report`` and to draw on ``table``."""
        self._plan, self._report, self._table = plan, report, table

    def run(self) -> None:
        """Measure everything.

        Raises:
            ConfigError, EnvironmentLacks: a load, the model or a process cannot be used.
            KeyboardInterrupt: the user has had enough.

        """
        for load in self._plan.loads:
            for level in self._plan.levels:
                if level != "startup":
                    self._measure_level(level, load)
        if "startup" in self._plan.levels:
            case = self._begin_case("startup", {})
            transport = self._plan.loads[0].transport
            parameters = {**self._plan.parameters, "image_transport": transport}
            for _ in range(self._plan.runs):
                self._turn(case, "startup", partial(measure_start, parameters))
        self._report.complete = True

    def _measure_level(self, level: str, load: Load) -> None:
        if level == "node" and self._plan.is_sweep:
            self._sweep(load)
            return
        case = self._begin_case(level, load.describe())
        for _ in range(self._plan.runs):
            if level == "node":
                self._measure_bare_beside(case, load)
                for subject in ("node", *self._plan.baselines):
                    self._measure(case, subject, load)
            else:
                self._measure(case, PACED[level], load)
        if level == "node":
            self._measure_bare_beside(case, load)

    def _measure_bare_beside(self, case: Case, load: Load) -> None:
        """Measure as long as the node where the 99th percentiles of both are compared."""
        if "floor" not in self._plan.baselines:
            load = replace(load, frames=min(load.frames, BARE_FRAMES))
        self._measure(case, "bare", load)

    def _sweep(self, load: Load) -> None:
        """Find the highest rate: the case is its run, and bare inference at this rate.

        After Ctrl-C each rate that was tried is a case.
        """
        cases = self._report.cases
        before, first = len(cases), self._begin_case("node", load.describe())
        self._measure_bare_beside(first, load)
        limit_hz = 1e3 / first.merged("bare", INFER).percentile_ms(50) / load.cameras

        def measure(rate_hz: float) -> Run:
            return self._probe(replace(load, rate_hz=rate_hz, frames=count_probe_frames(rate_hz)))

        def confirm(rate_hz: float) -> Run:
            return self._probe(replace(load, rate_hz=rate_hz))

        highest_hz = min(HIGHEST_RATE_HZ, HIGHEST_OF_LIMIT * limit_hz)
        lowest_hz = min(load.rate_hz, LOWEST_OF_LIMIT * limit_hz, highest_hz)
        found = find_highest_rate(measure, lowest_hz, highest_hz, confirm)
        at = replace(load, rate_hz=round(found.rate_hz, 1)) if found.run else load
        case = Case("node", {**at.describe(), "highest_rate_hz": found.rate_hz})
        self._measure_bare_beside(case, at)
        if found.run is not None:
            remarks = found.run.remarks if found.is_highest else (*found.run.remarks, NOT_HIGHEST)
            case.runs.append(replace(found.run, remarks=remarks))
        cases[before:] = [case]

    def _probe(self, load: Load) -> Run:
        """Measure the node; without ~/latency, which would cost a part of what is looked for."""
        case = self._begin_case("node", load.describe())
        return self._measure(case, "node", load, with_stages=False)

    def _begin_case(self, level: str, load: dict[str, Any]) -> Case:
        case = Case(level, load)
        self._report.cases.append(case)
        return case

    def _turn(self, case: Case, subject: str, measure: Callable[[], Run]) -> Run:
        self._table.begin(case.name, subject)
        try:
            run = measure()
        except RunInterrupted as interrupt:
            if interrupt.run is not None:
                case.runs.append(interrupt.run)
            raise
        case.runs.append(run)
        self._table.end(run)
        return run

    def _measure(self, case: Case, subject: str, load: Load, *, with_stages: bool = True) -> Run:
        plan = self._plan
        of_node = partial(measure_node, with_stages=with_stages)
        measure = measure_paced if subject in PACED.values() else of_node
        work = partial(measure, load, subject, plan.deadline_ms, plan.parameters)
        return self._turn(case, subject, partial(work, on_progress=self._table.update))
