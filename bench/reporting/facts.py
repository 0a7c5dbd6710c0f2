# SPDX-License-Identifier: Apache-2.0
"""What a report says of the machine, the model and the command, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perception_node.bench.machine import Noise
from perception_node.bench.reporting.merging import describe_machine

if TYPE_CHECKING:
    from perception_node.bench.reporting.measurement import Report

STATE = {
    "governor": "governor",
    "cpu_mhz": "CPU MHz",
    "gpu_mhz": "GPU MHz",
    "power_mode": "power mode",
    "load_average": "load",
    "temperatures_c": "Celsius",
}


def list_facts(report: Report) -> list[tuple[str, str]]:
    """Return what was measured, where, when and how."""
    machine = report.machine
    model = [str(text)[: 12 if key == "sha256" else None] for key, text in report.model.items()]
    facts = [
        ("machine", describe_machine(machine)),
        ("kernel", str(machine.get("kernel", ""))),
        ("versions", _to_text(machine.get("versions", ""))),
        ("state", _describe_state(machine)),
        ("noise", _describe_noise(machine.get("noise"))),
        ("date", report.started_utc),
        ("command", " ".join(["perception bench", *report.command])),
        ("model", ", ".join(model)),
        ("deadline", f"{report.deadline_ms:g} ms"),
    ]
    return [(name, text) for name, text in facts if text]


def _describe_state(machine: dict[str, Any]) -> str:
    """Return how the machine was before the first run, as far as it tells."""
    return "; ".join(
        f"{name} {_to_text(machine[key])}" for key, name in STATE.items() if key in machine
    )


def _describe_noise(noise: object) -> str:
    known = noise if isinstance(noise, dict) else {}
    values: list[Any] = [known.get(name) for name in Noise._fields]
    if not all(isinstance(value, (int, float)) for value in values):
        return ""
    return "; ".join(Noise(*values).describe().splitlines())


def _to_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(dict.fromkeys(map(str, value))) if isinstance(value, list) else str(value)
