# SPDX-License-Identifier: Apache-2.0
"""What a burst of 1000 frames leaves behind: 30 Hz before it, all at once, 30 Hz after it.

    .venv/bin/python -m perception_node.bench.burst

Prints p50 and p99 of the ages (publish call to result received, two processes) and the node's own
memory before and after, as the median of the runs, and how the frames of the burst ended.
"""

from __future__ import annotations

import argparse
import os
import platform
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.camera.camera_faults import with_stamp
from perception_node.bench.camera.load import Load, make_messages
from perception_node.bench.process_watch import read_sample
from perception_node.rehearsal.bag_rehearsal import Rehearsal
from perception_node.rehearsal.domain import private_domain
from perception_node.system.resources import SAMPLE_TOPICS
from perception_node.wire.bags import BagMessage
from perception_node.wire.images import NANOSECONDS, RAW_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perception_node.rehearsal.heard import Result

BURST = 1000
PERIOD_NS = NANOSECONDS // 30
WARM_UP_FRAMES = 30


class MemoryRehearsal(Rehearsal):
    """Notes the node's memory with each result, by the image's stamp."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.memory_mib: dict[int, float] = {}

    def _note(self, result: Result, _age_ms: float) -> None:
        self.memory_mib[result.stamp_ns] = read_sample(self.pid).own_mib


def main() -> None:
    """Repeat the burst and print one line for before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=600, help="before, and after")
    parser.add_argument("--size", default="640x480", metavar="WxH")
    arguments = parser.parse_args()
    os.environ.pop("ROS_DOMAIN_ID", None)  # each run has a domain that no other has
    width, height = map(int, arguments.size.split("x"))
    before = arguments.frames + WARM_UP_FRAMES
    messages = list(play(width, height, before + BURST + arguments.frames))
    runs = [measure(squeeze(messages, before), before) for _ in range(arguments.runs)]
    print(f"{arguments.size} bgr8 at 30 Hz, {arguments.frames} frames, then {BURST} at once, then")
    print(f"{arguments.frames} frames; {arguments.runs} runs, {os.cpu_count()} cores,")
    print(f"Python {platform.python_version()}, median of the runs")
    figures = np.median(runs, axis=0)
    print(f"{'':<8} {'p50 ms':>8} {'p99 ms':>8} {'memory MiB':>11}")
    print(f"{'before':<8} {figures[0]:8.2f} {figures[1]:8.2f} {figures[2]:11.1f}")
    print(f"{'after':<8} {figures[3]:8.2f} {figures[4]:8.2f} {figures[5]:11.1f}")


def play(width: int, height: int, count: int) -> Iterator[BagMessage]:
    """Yield raw images made from the sample bag, one every 33 ms."""
    images = [bytes(image) for image in make_messages(Load(width=width, height=height))]
    for index in range(count):
        time_ns = (index + 1) * PERIOD_NS
        message = with_stamp(images[index % len(images)], time_ns)
        yield BagMessage(SAMPLE_TOPICS["raw"], RAW_TYPE, time_ns, message)


def squeeze(messages: list[BagMessage], before: int) -> list[BagMessage]:
    """Send the frames of the burst at the moment of its first; their stamps stay as they are."""
    gap_ns = (BURST - 1) * PERIOD_NS
    start_ns = messages[before].time_ns
    due_ns = [
        m.time_ns if m.time_ns < start_ns else max(start_ns, m.time_ns - gap_ns) for m in messages
    ]
    return [m._replace(time_ns=due) for m, due in zip(messages, due_ns, strict=True)]


def measure(messages: list[BagMessage], before: int) -> list[float]:
    """Run one node through it all; return what ``summarize`` says of the time before and after."""
    rehearsal = MemoryRehearsal()
    with private_domain():
        rehearsal.run(messages, SAMPLE_TOPICS["raw"])
    said = rehearsal.diagnostics
    print(", ".join(f"{key} {said[key]}" for key in ("received", "published", "superseded")))
    first, last = before * PERIOD_NS, (before + BURST) * PERIOD_NS
    return [
        *summarize(rehearsal, WARM_UP_FRAMES * PERIOD_NS, first),
        *summarize(rehearsal, last + PERIOD_NS, len(messages) * PERIOD_NS),
    ]


def summarize(rehearsal: MemoryRehearsal, first_ns: int, last_ns: int) -> tuple[float, ...]:
    """Return p50 and p99 of the ages in ms and the last memory in MiB, of frames in between."""
    stamps = [stamp for stamp in sorted(rehearsal.ages_ms) if first_ns < stamp <= last_ns]
    p50, p99 = np.percentile([rehearsal.ages_ms[stamp] for stamp in stamps], (50, 99))
    return float(p50), float(p99), rehearsal.memory_mib[stamps[-1]]


if __name__ == "__main__":
    main()
