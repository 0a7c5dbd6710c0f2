# SPDX-License-Identifier: Apache-2.0
"""What does it cost the node that somebody watches it on the page? Runs alternate.

    .venv/bin/python -m perception_node.bench.live_page [--chromium]

The node gets camera frames at 30 Hz, alone and with ``perception serve --ros`` and one viewer, who
reads every event and fetches every new picture; camera, node, subscriber, server and viewer are
processes of their own. Prints the age of the results (publish call to result received) and the
node's processor time per frame, as the median of the runs, and the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from contextlib import contextmanager
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.camera.load import Load, parse_size
from perception_node.bench.levels.child_process import ChildProcess
from perception_node.bench.levels.node_level import measure_node
from perception_node.bench.machine import read_machine
from perception_node.bench.page_server import serve_page
from perception_node.bench.page_viewer import EVENT, PICTURE
from perception_node.bench.reporting.measurement import END_TO_END
from perception_node.bench.reporting.merging import describe_machine
from perception_node.config.sections import LatencyConfig
from perception_node.errors import EnvironmentLacks
from perception_node.ros.domain import private_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.bench.reporting.measurement import Run
    from perception_node.bench.reporting.progress import Progress

WARM_UP_FRAMES = 300  # until the server has found the node and the viewer has seen pictures
HIGHEST_RATIO = 1.05
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SUBJECTS = ("alone", "watched")


class Figures(NamedTuple):
    """Of one run, in milliseconds."""

    p50: float
    p99: float
    cpu: float


class Viewer:
    """Counts what somebody who looks at the page gets."""

    def __init__(self, process: ChildProcess) -> None:
        """Count what ``process`` reports."""
        self._process = process

    def follow(self, progress: Progress) -> None:
        """Read what it has reported; it must have seen a picture before the frames count.

        Raises:
            EnvironmentLacks: it has not, or it has ended.

        """
        self._process.receive()
        if progress.sent and PICTURE not in self._process.received:
            raise EnvironmentLacks("the page showed no picture before the first frame counted")

    def describe(self) -> str:
        """Say what it got, warm-up included."""
        received = self._process.received
        return f"{received.count(EVENT)} events, {received.count(PICTURE)} pictures"


def main() -> None:
    """Alternate, and print one line for each subject."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--size", default="640x480", metavar="WxH")
    parser.add_argument(
        "--chromium", action="store_true", help="the viewer is headless Chromium with the page"
    )
    arguments = parser.parse_args()
    width, height = parse_size(arguments.size)
    load = Load(frames=arguments.frames, warm_up_frames=WARM_UP_FRAMES, width=width, height=height)
    browser = find_browser() if arguments.chromium else ""
    figures: dict[str, list[Figures]] = {subject: [] for subject in SUBJECTS}
    for _ in range(arguments.runs):
        figures["alone"].append(measure_alone(load))
        figures["watched"].append(measure_watched(load, browser))
    viewer = "Chromium" if browser else "a client in Python"
    print(f"\n{load.name}, {load.frames} frames, {arguments.runs} runs, the viewer is {viewer}")
    print(f"{describe_machine(read_machine())}, Python {platform.python_version()}")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, median of the runs")
    print_figures(figures)


def print_figures(figures: dict[str, list[Figures]]) -> None:
    """Print the medians and how they compare."""
    print(f"{'':<8} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms/frame':>13}")
    medians = {
        subject: Figures(*(median(column) for column in zip(*runs, strict=True)))
        for subject, runs in figures.items()
    }
    for subject, one in medians.items():
        print(f"{subject:<8} {one.p50:8.2f} {one.p99:8.2f} {one.cpu:13.2f}")
    alone, watched = (medians[subject] for subject in SUBJECTS)
    ratios = Figures(*(b / a for a, b in zip(alone, watched, strict=True)))
    print(f"{'ratio':<8} {ratios.p50:8.3f} {ratios.p99:8.3f} {ratios.cpu:13.3f}")
    verdict = "reached" if ratios.p99 <= HIGHEST_RATIO else "not reached"
    print(f"target: p99 at most {HIGHEST_RATIO:g} times that of the node alone: {verdict}")


def measure_alone(load: Load) -> Figures:
    """Measure the node that nobody watches."""
    with own_domain():
        return _measure(load, "alone", lambda _: None)


def measure_watched(load: Load, browser: str) -> Figures:
    """Measure the node that somebody watches; the server and the viewer are there before it."""
    with own_domain(), serve_page() as url:
        task = {"url": url, "chromium": browser}
        module = "perception_node.bench.page_viewer"
        with ChildProcess("viewer", module, task) as process:
            viewer = Viewer(process)
            figures = _measure(load, "watched", viewer.follow)
            print(f"{'':<8} the viewer got {viewer.describe()}")
            return figures


def _measure(load: Load, subject: str, on_progress: Callable[[Progress], None]) -> Figures:
    deadline_ms = LatencyConfig().deadline_ms
    run = measure_node(load, "node", deadline_ms, {}, with_stages=False, on_progress=on_progress)
    figures = _read(run)
    print(f"{subject:<8} {figures.p50:8.2f} {figures.p99:8.2f} {figures.cpu:13.2f}", flush=True)
    for remark in run.remarks:
        print(f"{'':<8} {remark}")
    return figures


def _read(run: Run) -> Figures:
    ages = run.stages[END_TO_END]
    p50, p99 = ages.percentile_ms(50), ages.percentile_ms(99)
    return Figures(p50, p99, run.resources["cpu_ms_per_frame"])


@contextmanager
def own_domain() -> Iterator[None]:
    """Let a run have a ROS domain that no other has, whatever the user's is."""
    before = os.environ.pop("ROS_DOMAIN_ID", None)
    try:
        with private_domain():
            yield
    finally:
        if before is not None:
            os.environ["ROS_DOMAIN_ID"] = before


def find_browser() -> str:
    """Return where Chromium is.

    Raises:
        EnvironmentLacks: there is none.

    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise EnvironmentLacks(f"none of {', '.join(BROWSERS)} is installed")
    return found


if __name__ == "__main__":
    main()
