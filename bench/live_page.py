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
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.camera.load import Load, parse_size
from perception_node.bench.levels.child_process import ChildProcess
from perception_node.bench.levels.node_level import measure_node
from perception_node.bench.machine import read_machine
from perception_node.bench.page_viewer import EVENT, PICTURE, PageServer
from perception_node.bench.reporting.measurement import END_TO_END
from perception_node.bench.reporting.merging import describe_machine
from perception_node.config.sections import LatencyConfig
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.domain import private_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from perception_node.bench.reporting.live_table import Progress

WARM_UP_FRAMES = 300  # until the server has found the node and the viewer has seen pictures
HIGHEST_RATIO = 1.05
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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
    os.environ.pop("ROS_DOMAIN_ID", None)  # each run has a domain that no other has
    alone, watched = [], []
    for _ in range(arguments.runs):
        alone.append(measure(load, "alone"))
        watched.append(measure_watched(load, browser))
    viewer = "Chromium" if browser else "a client in Python"
    print(f"\n{load.name}, {load.frames} frames, {arguments.runs} runs, the viewer is {viewer}")
    print(f"{describe_machine(read_machine())}, Python {platform.python_version()}")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, median of the runs")
    print_medians(np.median(alone, axis=0), np.median(watched, axis=0))


def print_medians(alone: NDArray[np.float64], watched: NDArray[np.float64]) -> None:
    """Print the medians of p50, p99 and processor time, and how they compare."""
    print(f"{'':<8} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms/frame':>13}")
    print_row("alone", alone)
    print_row("watched", watched)
    ratios = watched / alone
    print_row("ratio", ratios, digits=3)
    verdict = "reached" if ratios[1] <= HIGHEST_RATIO else "not reached"
    print(f"target: p99 at most {HIGHEST_RATIO:g} times that of the node alone: {verdict}")


def print_row(name: str, figures: Iterable[float], digits: int = 2) -> None:
    """Print p50, p99 and processor time."""
    p50, p99, cpu = figures
    print(f"{name:<8} {p50:8.{digits}f} {p99:8.{digits}f} {cpu:13.{digits}f}", flush=True)


def measure_watched(load: Load, browser: str) -> tuple[float, ...]:
    """Measure the node that somebody watches; the server and the viewer are there before it.

    Raises:
        EnvironmentLacks: the viewer has seen no picture before the frames count, or has ended.

    """
    with private_domain(), PageServer() as server:
        task = {"url": server.wait_for_address(), "chromium": browser}
        with ChildProcess("viewer", "perception_node.bench.page_viewer", task) as viewer:

            def follow(progress: Progress) -> None:
                viewer.receive()
                if progress.sent and PICTURE not in viewer.received:
                    problem = "the page showed no picture before the first frame counted"
                    raise EnvironmentLacks(problem)

            figures = measure(load, "watched", follow)
            events, pictures = (viewer.received.count(sign) for sign in (EVENT, PICTURE))
            print(f"{'':<8} the viewer got {events} events, {pictures} pictures")
            return figures


def measure(
    load: Load, subject: str, on_progress: Callable[[Progress], None] = lambda _: None
) -> tuple[float, ...]:
    """Return p50 and p99 of the ages, and the node's processor time per frame, in ms."""
    deadline_ms = LatencyConfig().deadline_ms
    run = measure_node(load, "node", deadline_ms, {}, with_stages=False, on_progress=on_progress)
    ages = run.stages[END_TO_END]
    figures = ages.percentile_ms(50), ages.percentile_ms(99), run.resources["cpu_ms_per_frame"]
    print_row(subject, figures)
    for remark in run.remarks:
        print(f"{'':<8} {remark}")
    return figures


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
