# SPDX-License-Identifier: Apache-2.0
"""Which executor should carry the node? Raw camera frames at 30 Hz, runs alternate.

    .venv/bin/python -m perception_node.bench.executors

Prints the age of the results (publish call to result received, two processes) and the node's
processor time per frame, as the median of the runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bags import BagMessage
from perception_node.bench.camera import load
from perception_node.bench.camera.camera_faults import with_stamp
from perception_node.cli.demo import TOPICS
from perception_node.ros.compat import keep_discovery_local
from perception_node.ros.domain import PRIVATE_DOMAINS
from perception_node.ros.images import NANOSECONDS, RAW_TYPE
from perception_node.ros.rehearsal import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Iterator

EXECUTORS = ("single_threaded", "events")
PERIOD_NS = NANOSECONDS // 30
WARM_UP_FRAMES = 30


def main() -> None:
    """Alternate the executors and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="640x480", metavar="WxH")
    arguments = parser.parse_args()
    keep_discovery_local()
    width, height = map(int, arguments.size.split("x"))
    messages = list(make_messages(width, height, arguments.frames + WARM_UP_FRAMES))
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in EXECUTORS}
    for _ in range(arguments.runs):
        for name in EXECUTORS:
            figures[name].append(measure(messages, name))
    print(f"{arguments.size} bgr8 at 30 Hz, {arguments.frames} frames, {arguments.runs} runs,")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, median of the runs")
    print(f"{'executor':<16} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms/frame':>13}")
    for name, runs in figures.items():
        p50, p99, cpu_ms = (median(column) for column in zip(*runs, strict=True))
        print(f"{name:<16} {p50:8.2f} {p99:8.2f} {cpu_ms:13.2f}")


def measure(messages: list[BagMessage], executor: str) -> tuple[float, float, float]:
    """Return p50 and p99 of the age and the node's processor time per frame, all in ms."""
    os.environ["ROS_DOMAIN_ID"] = str(random.choice(PRIVATE_DOMAINS))  # noqa: S311 - no secret
    rehearsal = Rehearsal(on_result=lambda _result, _age_ms: None)
    rehearsal.run(messages, TOPICS["raw"], parameters={"executor": executor})
    ages = [age for _, age in sorted(rehearsal.ages_ms.items())][WARM_UP_FRAMES:]
    p50, p99 = np.percentile(ages, (50, 99))
    return float(p50), float(p99), rehearsal.cpu_s * 1e3 / len(messages)


def make_messages(width: int, height: int, count: int) -> Iterator[BagMessage]:
    """Yield serialized raw images made from the sample bag, one every 33 ms."""
    images = [bytes(image) for image in load.make_messages(load.Load(width=width, height=height))]
    for index in range(count):
        time_ns = (index + 1) * PERIOD_NS
        message = with_stamp(images[index % len(images)], time_ns)
        yield BagMessage(TOPICS["raw"], RAW_TYPE, time_ns, message)


if __name__ == "__main__":
    main()
