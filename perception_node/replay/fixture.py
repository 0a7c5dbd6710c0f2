# SPDX-License-Identifier: Apache-2.0
"""What the pytest fixture ``perception_replay`` does."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perception_node.errors import PerceptionError
from perception_node.printable import printable_lines
from perception_node.replay.golden_file import read_golden, write_golden
from perception_node.replay.tolerance import DEFAULT_SCORE, parse_tolerance
from perception_node.replay.verdict import judge
from perception_node.system.guardian import ended_with_us
from perception_node.wire.bags import open_bag

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from perception_node.replay.golden import Record
    from perception_node.replay.verdict import Verdict

END_TIMEOUT_S = 15.0  # the command ends its nodes first


class Replay:
    """Replays bags for one test; paths are relative to the folder of its file."""

    def __init__(self, folder: Path, *, is_updated: bool) -> None:
        """Write golden files where ``is_updated``, otherwise compare with them."""
        self._folder = folder
        self._is_updated = is_updated

    def __call__(
        self,
        bag: str | PathLike[str],
        *,
        golden: str | PathLike[str] | None = None,
        model: str | PathLike[str] = "",
        tolerance: float | str = DEFAULT_SCORE,
        topics: Sequence[str] = (),
        live: bool = False,
        report: str | PathLike[str] | None = None,
        arguments: Sequence[str] = (),
    ) -> list[Record]:
        """Replay a bag; fail the test where it is not as the golden file has it.

        Args:
            bag: rosbag2 folder, or the file in it.
            golden: golden file; None compares with nothing.
            model: bundle: a folder, or the name of one that comes with us; empty for the default.
            tolerance: as ``perception replay --tolerance`` takes it.
            topics: image topics; all of them if empty.
            live: through real nodes over DDS.
            report: where a page shows what changed, if anything did: FILE.html, or a folder.
            arguments: more of ``perception replay``, such as ``("--top-k", "3")``.

        Returns the records: dictionaries as the lines of a golden file.

        """
        __tracebackhide__ = True
        problem = ""
        try:
            path = self._find(bag)
            command = [str(path), "--model", self._find_model(model), *arguments]
            for topic in topics:
                command += ["--topic", topic]
            run = partial(_run, [*command, "--live"] if live else command)
            if golden is None:
                return run()
            file, limits = self._find(golden), parse_tolerance(str(tolerance))
            if self._is_updated:
                return _update(file, run())
            expected = read_golden(file)  # before a long replay
            verdict = judge(file, expected, run(), limits)
            if not verdict.differences:
                return verdict.found
            problem = str(verdict)
            if report is not None:
                problem += f"report: {_report(self._find(report), path, topics, verdict)}\n"
        except PerceptionError as error:
            problem = f"{problem}perception: {printable_lines(error.args[0])}"
        pytest.fail(problem, pytrace=False)

    def _find(self, path: str | PathLike[str]) -> Path:
        return self._folder / Path(path).expanduser()

    def _find_model(self, model: str | PathLike[str]) -> str:
        """Return a folder beside the test by its path, and a name as it is."""
        folder = self._find(model)
        return str(folder) if str(model) and folder.is_dir() else str(model)


def _update(golden: Path, found: list[Record]) -> list[Record]:
    write_golden(golden, found)
    return found


def _run(arguments: list[str]) -> list[Record]:
    """Return what ``perception replay`` prints.

    Raises:
        PerceptionError: it failed; the message is its line.

    """
    command = [sys.executable, "-m", "perception_node.cli", "replay", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=ended_with_us(),
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:  # a timeout of the test, or Ctrl-C
            process.terminate()
            try:
                process.communicate(timeout=END_TIMEOUT_S)
            finally:
                process.kill()
            raise
    if process.returncode:
        text = err.strip() or f"perception replay ended with code {process.returncode}"
        raise PerceptionError(text.removeprefix("perception: "))
    return [json.loads(line) for line in out.splitlines()]


def _report(place: Path, path: Path, topics: Sequence[str], verdict: Verdict) -> Path:
    from perception_node.replay.pictures import IMAGE_TYPES  # noqa: PLC0415 - a failure only
    from perception_node.replay.report import report_bag  # noqa: PLC0415

    with open_bag(path) as bag:
        chosen = bag.select(list(topics), IMAGE_TYPES)
        return report_bag(place, bag, chosen, verdict, {"bag": str(path)})
