# SPDX-License-Identifier: Apache-2.0
"""The scenario of a soak, with the limits of its length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import FAULTS
from perception_node.bench.hil.scenario_file import find_scenario, parse_scenario, read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.bench.hil.scenario import Scenario

LONG_S, LONG_SETTLED_S = 1800.0, 2100.0  # the latter with the warm-up of the process


def make_scenario(
    seconds: float, rate_hz: float, seed: int, transport: str, command: Sequence[str] = ()
) -> Scenario:
    """Return the scenario ``soak`` with these values, and the limits of its length.

    Long runs have the limits of a release. In short ones the other programs of the machine weigh
    more: a busy minute, which an hour would outweigh.
    """
    path = find_scenario("soak")
    data = read_yaml(path)
    data["camera"] |= {"seconds": seconds, "rate_hz": rate_hz, "transport": transport}
    faults = [str(fault) for fault in FAULTS[transport]]
    data["faults"]["random"] |= {"seed": seed, "faults": faults}
    rates = {"stuck_after": int(rate_hz / 2), "warn_rate_hz": rate_hz / 2}
    data["node"]["parameters"] |= rates
    if seconds >= LONG_S:
        data["expect"] |= {"answered_percent": 50, "recovery_s": {"fault": 1}}
    if seconds >= LONG_SETTLED_S:
        data["expect"]["leaks"] |= {"memory_mib": 20, "memory_mib_per_h": 1}
    scenario = parse_scenario(path, data)
    return replace(scenario, node=replace(scenario.node, command=tuple(command)))
