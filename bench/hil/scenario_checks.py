# SPDX-License-Identifier: Apache-2.0
"""What contradicts itself in a scenario whose fields are right one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.bench.hil.scenario import Scenario

FROM_CAMERA = {"image_transport": "camera.transport", "image_topics": "camera.topic"}


def find_contradictions(scenario: Scenario) -> Iterator[str]:
    """Yield one line for each: the key, and what is allowed."""
    yield from _check_node(scenario)
    yield from _check_times(scenario)
    yield from _check_faults(scenario)
    yield from _check_expect(scenario)


def _check_node(scenario: Scenario) -> Iterator[str]:
    node, expect = scenario.node, scenario.expect
    for name, key in FROM_CAMERA.items():
        if name in node.parameters:
            yield f"node.parameters.{name}: is what {key} says; leave it out"
    if node.is_local:
        if node.apply_parameters:
            yield "node.apply_parameters: is for start: none; a local node gets them at its start"
        return
    not_ours: dict[str, Callable[[], bool]] = {
        "node.command": lambda: bool(node.command),
        "node.respawn": lambda: node.respawn,
        "expect.exit_code": lambda: expect.exit_code is not None,
        "expect.account_exact": lambda: expect.account_exact,
        "expect.leaks": lambda: expect.leaks is not None,
        "expect.expected_log": lambda: expect.expected_log,
        "steps: kill": lambda: any(step.do == "kill" for step in scenario.steps),
    }
    for what, is_given in not_ours.items():
        if is_given():
            yield f"{what}: is only for a node that this host starts (node.start: local)"
    if node.parameters and not node.apply_parameters:
        yield "node.parameters: are set on a device that runs only with apply_parameters: true"


def _check_times(scenario: Scenario) -> Iterator[str]:
    camera, faults, steps = scenario.camera, scenario.faults, scenario.steps
    if camera.warm_up_s >= camera.seconds:
        yield f"camera.warm_up_s: must be less than seconds ({camera.seconds:g})"
    for number, fault in enumerate(faults):
        if fault.at_s + fault.for_s > camera.seconds:
            yield f"faults[{number}]: must end within camera.seconds ({camera.seconds:g})"
    for number, (before, after) in enumerate(pairwise(faults), start=1):
        if before.at_s + before.for_s > after.at_s:
            yield f"faults[{number}].at_s: must not come before the end of the one above"
    for number, step in enumerate(steps):
        if step.at_s >= camera.seconds:
            yield f"steps[{number}].at_s: must be less than camera.seconds ({camera.seconds:g})"
    for number, (earlier, later) in enumerate(pairwise(steps), start=1):
        if earlier.at_s > later.at_s:
            yield f"steps[{number}].at_s: must not come before the step above"


def _check_faults(scenario: Scenario) -> Iterator[str]:
    chosen = scenario.random_faults.faults if scenario.random_faults else ()
    words = {*chosen, *(planned.fault for planned in scenario.faults)}
    if Fault.CORRUPT in words and scenario.camera.transport == "raw":
        yield "faults: corrupt needs camera.transport: compressed; a raw image has no end to miss"
    planned_words = {*map(str, words), *(step.do for step in scenario.steps)}
    for number, demand in enumerate(scenario.expect.diagnostics):
        if demand.during and demand.during not in planned_words:
            yield f"expect.diagnostics[{number}].during: no {demand.during} in faults or steps"


def _check_expect(scenario: Scenario) -> Iterator[str]:
    if scenario.expect.golden is not None and scenario.camera.source != "bag":
        yield "expect.labels.golden: needs the bag that it was made of as camera.source"
