# SPDX-License-Identifier: Apache-2.0
"""What a run of the node level comes to: stages, counts, resources, and whether to trust it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.levels.frames import (
    collect_stages,
    count_dropped,
    count_frames,
    make_timeline,
)
from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import INFER, OTHER_THREADS, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perception_node.bench.levels.frame_join import FrameJoin
    from perception_node.bench.levels.frames import PlayedFrame
    from perception_node.bench.process_watch import ProcessSample, StolenTime, Usage

HIGHEST_STOLEN_SHARE = 0.02
FEWEST_FRAMES = 10  # fewer have no rate
LEAST_KEPT_RATE = 0.975
INFERENCE = "inference: "  # begins a line of a baseline's: an HdrHistogram
TOO_SLOW = "the camera sent only"  # begins the remark that the load was less than asked for
ACCOUNT = re.compile(
    r"frames(?: of \S+)?: received (?P<received>\d+) = published (?P<published>\d+)"
)


@dataclass
class Looks:
    """Looks at subject and machine: at the end of the warm-up and at the end of the run."""

    usages: list[Usage] = field(default_factory=list)
    stolen: list[StolenTime] = field(default_factory=list)
    sample: ProcessSample | None = None

    @property
    def has_begun(self) -> bool:
        """The first look is done."""
        return bool(self.usages)

    def add(self, usage: Usage, stolen: StolenTime) -> None:
        """Note one look."""
        self.usages.append(usage)
        self.stolen.append(stolen)


def make_run(
    join: FrameJoin,
    looks: Looks,
    *,
    subject: str,
    deadline_ns: int,
    log: Sequence[str],
    exit_code: int,
    interrupted_ns: int | None = None,
) -> Run | None:
    """Put a run together.

    Args:
        join: its frames.
        looks: at subject and machine.
        subject: who was measured.
        deadline_ns: what counts as missed.
        log: the node's lines, also those after its end; empty for a subject without an account.
        exit_code: the subject's.
        interrupted_ns: steady time up to which all is known of a run that was interrupted; frames
            that could have been answered in time after it do not count. None: it is complete.

    Returns:
        The run; None if it was interrupted before the first frame counted.

    """
    frames = join.measured()
    if interrupted_ns is not None:
        end_ns = interrupted_ns - deadline_ns
        frames = [f for f in frames if f.received_ns or f.sent.call_ns < end_ns]
    if not frames:
        return None
    counts, remarks = count_frames(frames, deadline_ns), _judge_camera(frames)
    account = _read_accounts(log)
    if account is not None and interrupted_ns is None:  # it holds more frames than we have read
        received, published = account
        if join.traces:
            counts |= count_dropped(frames, max(0, len(join.frames) - received))
        remarks += _judge_results(published - join.results)
    if join.without_result:
        remarks.append(f"{join.without_result} results held no class")
    if exit_code != 0:
        remarks.append(f"{subject} ended with code {exit_code} when it was asked to end")
    return Run(
        subject=subject,
        stages=collect_stages(frames) | _read_inference(log),
        counts=counts,
        resources=_measure_resources(looks, join.frames.values()),
        timeline=make_timeline(frames),
        remarks=(*remarks, *judge_stolen_time(*looks.stolen)),
    )


def _measure_resources(looks: Looks, frames: Iterable[PlayedFrame]) -> dict[str, float]:
    """Divide what was used between the looks by the frames that were answered meanwhile.

    What all threads but the busiest used goes by the images that were sent: see ``OTHER_THREADS``.
    """
    frames = list(frames)
    for before, after in pairwise(looks.usages):
        sent = sum(before.time_ns < frame.sent.call_ns <= after.time_ns for frame in frames)
        answered = sum(before.time_ns < frame.received_ns <= after.time_ns for frame in frames)
        if not answered:
            break
        switches = after.involuntary_switches - before.involuntary_switches
        waits = after.voluntary_switches - before.voluntary_switches
        resources = {
            "cpu_ms_per_frame": (after.cpu_s - before.cpu_s) * 1e3 / answered,
            "page_faults_per_frame": (after.page_faults - before.page_faults) / answered,
            "voluntary_switches_per_frame": waits / answered,
            "involuntary_switches_per_frame": switches / answered,
            OTHER_THREADS: before.beside_busiest_s(after) * 1e3 / max(1, sent),
        }
        if looks.sample is not None:
            resources["memory_mib"] = looks.sample.own_mib
        return resources
    return {}


def _judge_camera(frames: Sequence[PlayedFrame]) -> list[str]:
    """Say whether the camera was late, or so late that the load was another one."""
    remarks: list[str] = []
    sent = [frame.sent for frame in frames]
    due_s = (sent[-1].due_ns - sent[0].due_ns) / 1e9
    if len(sent) < FEWEST_FRAMES or not due_s:
        return remarks
    late_ms = float(np.percentile([one.call_ns - one.due_ns for one in sent], 99)) / 1e6
    first = [one for one in sent if one.camera == sent[0].camera]
    period_ms = (first[-1].due_ns - first[0].due_ns) / max(1, len(first) - 1) / 1e6
    if late_ms > period_ms / 2:
        remarks.append(
            f"the camera could not keep its schedule: 1 % of its frames were {late_ms:.1f} ms "
            f"late or more, its period is {period_ms:.1f} ms"
        )
    took_s = (max(one.call_ns for one in sent) - sent[0].call_ns) / 1e9
    if due_s < LEAST_KEPT_RATE * took_s:
        frames_sent = len(sent) - 1
        rates = f"{frames_sent / took_s:.1f} of {frames_sent / due_s:.1f} frames per second"
        remarks.append(f"{TOO_SLOW} {rates}")
    return remarks


def _judge_results(missing: int) -> list[str]:
    if missing <= 0:
        return []
    return [f"{missing} results that the node published did not reach the subscriber"]


def judge_stolen_time(*looks: StolenTime) -> list[str]:
    """Say whether the host of this machine took more between two looks than one can ignore."""
    for before, after in pairwise(looks):
        share = before.share_until(after)
        if share > HIGHEST_STOLEN_SHARE:
            return [f"{share:.1%} of the processor time was taken by the host of this machine"]
    return []


def _read_inference(log: Sequence[str]) -> dict[str, Durations]:
    """Return what a baseline says of its inference, warm-up included; it has no ~/latency."""
    lines = [line for line in log if line.startswith(INFERENCE)]
    return {INFER: Durations.decode(lines[-1].removeprefix(INFERENCE))} if lines else {}


def _read_accounts(log: Sequence[str]) -> tuple[int, int] | None:
    """Return what all cameras of a node received and published; None if it does not say."""
    matches = [match for line in log if (match := ACCOUNT.search(line))]
    if not matches:
        return None
    return sum(int(m["received"]) for m in matches), sum(int(m["published"]) for m in matches)
