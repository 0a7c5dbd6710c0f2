# SPDX-License-Identifier: Apache-2.0
"""When a frame is judged: not in the warm-up, a fault, an outage, nor just after these."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.bench.camera.fault_schedule import SECOND_NS
from perception_node.bench.hil.scenario import DOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord, StepDone
    from perception_node.bench.hil.scenario import Scenario

NODE_DEADLINE_MS = 100.0  # of a device that does not say


class Span(NamedTuple):
    """From ``begin_ns`` to before ``end_ns``, on the host's steady clock."""

    begin_ns: int
    end_ns: int


def find_calm(scenario: Scenario, record: HilRecord) -> NDArray[np.bool_]:
    """Return which of the sent frames are judged, shape (frames,)."""
    return _are_calm([frame.sent_ns for frame in record.sent], scenario, record)


def count_held_back(scenario: Scenario, record: HilRecord) -> int:
    """Return how many frames were not sent, by no fault of this host, and would be judged."""
    return int(np.count_nonzero(_are_calm(record.held_back, scenario, record)))


def _are_calm(times_ns: Sequence[int], scenario: Scenario, record: HilRecord) -> NDArray[np.bool_]:
    sent_ns = np.array(times_ns, np.int64)
    calm = np.ones(len(sent_ns), np.bool_)
    # A frame that is on its way when the trouble begins shares it.
    before_ns = int(deadline_ms(scenario, record) * 1e6)
    after_ns = int(scenario.expect.settle_s * SECOND_NS)
    warm_up_ns = int(scenario.camera.warm_up_s * SECOND_NS)
    calm &= sent_ns >= record.begin_ns + warm_up_ns
    troubles = (Span(fault.begin_ns, fault.end_ns) for fault in record.faults)
    for begin_ns, end_ns in chain(troubles, find_outages(record)):
        calm &= (sent_ns < begin_ns - before_ns) | (sent_ns >= end_ns + after_ns)
    return calm


def find_outages(record: HilRecord) -> list[Span]:
    """Return when the device did not work because of the steps: nobody asked for other outages."""
    outages = []
    down_ns = record.begin_ns if _begins_down(record) else None
    for number, step in enumerate(record.steps):
        if step.problem:
            continue
        if step.what in DOWN and down_ns is None:
            down_ns = step.time_ns
        if down_ns is None:
            continue
        if step.what == "activate":
            outages.append(Span(down_ns, end_of(step)))
            down_ns = None
        elif step.what == "kill":
            later = record.steps[number + 1 :]
            until_ns = later[0].time_ns if later else record.end_ns
            back_ns = _active_from(record, step.time_ns)
            if back_ns is not None and back_ns < until_ns:
                outages.append(Span(down_ns, back_ns))
                down_ns = None
    if down_ns is not None:
        outages.append(Span(down_ns, record.end_ns))
    return outages


def end_of(step: StepDone) -> int:
    """Return when a step was done."""
    return step.time_ns + int(step.seconds * SECOND_NS)


def deadline_ms(scenario: Scenario, record: HilRecord) -> float:
    """Return the deadline: the scenario's own, or the device's."""
    if scenario.expect.deadline_ms is not None:
        return scenario.expect.deadline_ms
    given = scenario.node.parameters.get("deadline_ms", NODE_DEADLINE_MS)
    return float(record.device.get("deadline_ms", str(given)))


def _begins_down(record: HilRecord) -> bool:
    """Return whether the device was not active when the camera began, as a step was to do it."""
    before = [change.state for change in record.states if change.time_ns <= record.begin_ns]
    is_down = bool(before) and before[-1] != "active"
    return is_down and any(step.what == "activate" for step in record.steps)


def _active_from(record: HilRecord, time_ns: int) -> int | None:
    """Return when the device was seen active again after a moment."""
    later = (s.time_ns for s in record.states if s.time_ns > time_ns and s.state == "active")
    return next(later, None)
