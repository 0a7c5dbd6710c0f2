# SPDX-License-Identifier: Apache-2.0
"""What a benchmark has measured: a report holds cases, a case holds runs.

A case is one level with one load. Its runs are of several subjects that took turns, so that their
ratios mean something on a noisy machine:

    bare       inference alone, paced at the rate of the load: the limit of all others
    pipeline   decode, preprocess, infer, postprocess, in one process without ROS
    node       the real node, with camera and subscriber in processes of their own
    naive      the node that people write (bench/baselines/naive.py), in the place of ours
    floor      transport of image and result and fastest preprocessing, no inference
    startup    the start of a node, again and again
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measured_run import Run, Timeline, from_run, to_run
from perception_node.errors import ConfigError
from perception_node.model.sealed_json import parse
from perception_node.system.files import read_regular_file
from perception_node.system.json_schema import describe_problem

__all__ = ["Case", "Report", "Run", "Timeline", "read_report"]

SCHEMA = Path(__file__).parent / "report.schema.json"
MAX_REPORT_BYTES = 256 << 20
FORMAT, VERSION = "perception_node bench report", 1
LEVELS = ("engine", "pipeline", "node", "startup")
END_TO_END = "end to end"  # publish call to Classification received
FROM_SCHEDULE = "from schedule"  # the same from the moment that the frame was due
OVERHEAD = "overhead"  # end to end without the frame's own inference
OWN_CODE = "own code"  # of the node: from the take to the publish call's return, less inference
INFER = "infer"
# A resource: processor time of all threads but the busiest, the one that infers, per image sent.
OTHER_THREADS = "other_threads_ms_per_image"


@dataclass
class Case:
    """Runs with one load.

    Attributes:
        level: engine, pipeline, node or startup.
        load: what was played, as plain values (``Load.describe()``); empty for ``startup``.
        runs: in the order in which they ran.

    """

    level: str
    load: dict[str, Any]
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What tells this case from others, such as ``node, 640x480 bgr8 raw at 30 Hz``."""
        return f"{self.level}, {self.load['name']}" if self.load else self.level

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects, in the order of their first run."""
        return tuple(dict.fromkeys(run.subject for run in self.runs))

    def of(self, subject: str) -> list[Run]:
        """Return the runs of one subject."""
        return [run for run in self.runs if run.subject == subject]

    def merged(self, subject: str, stage: str) -> Durations:
        """Return the durations of a stage in all runs of a subject."""
        durations = Durations()
        for run in self.of(subject):
            if stage in run.stages:
                durations.merge(run.stages[stage])
        return durations


@dataclass
class Report:
    """All of one benchmark.

    Attributes:
        command: the arguments behind ``perception bench``.
        started_utc: when it began, ISO 8601.
        deadline_ms: what counts as missed.
        model: ``name``, ``sha256``, ``engine``.
        machine: what it ran on, in plain values (``machine.read_machine()``).
        warnings: why the machine is not to be trusted, one line each.
        cases: what was measured.
        complete: False if it was interrupted.

    """

    command: list[str]
    started_utc: str
    deadline_ms: float
    model: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    complete: bool = False

    def to_json(self) -> str:
        """Return the report as JSON; NaN becomes null, histograms their base64."""
        content = {"format": FORMAT, "version": VERSION, **vars(self)}
        content["cases"] = [
            {"level": c.level, "load": c.load, "runs": [from_run(r) for r in c.runs]}
            for c in self.cases
        ]
        text = json.dumps(content, indent=1, allow_nan=False)
        return re.sub(r'\[\n[^][{}"]*\]', _on_one_line, text) + "\n"


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        ConfigError: it is none, or of another version, or a field is wrong; names file and key.

    """
    try:
        data = parse(read_regular_file(path, MAX_REPORT_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f"{path}: format: not a report of perception bench (report.json)")
    if (found := data.get("version")) != VERSION:
        known = f"this perception_node reads version {VERSION}"
        raise ConfigError(f"{path}: version: {str(found)[:32]!r} is not known; {known}")
    if problem := describe_problem(data, SCHEMA):
        raise ConfigError(f"{path}: {problem}")
    for number, case in enumerate(data["cases"]):
        runs = enumerate(case["runs"])
        place = f"{path}: cases.{number}.runs"
        case["runs"] = [to_run(run, f"{place}.{index}") for index, run in runs]
    known_fields = {name: data[name] for name in data.keys() - {"format", "version", "cases"}}
    return Report(**known_fields, cases=[Case(**case) for case in data["cases"]])


def _on_one_line(match: re.Match[str]) -> str:
    """Thousands of ages, one a line, would hide all else; a string never holds a line break."""
    return " ".join(match[0].split())
