# SPDX-License-Identifier: Apache-2.0
"""Several reports as one: the runs of equal loads add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perception_node.bench.reporting.measurement import Case, Report
from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def merge_reports(reports: Sequence[Report]) -> Report:
    """Return all runs of the reports; the reports stay as they are.

    Where they differ, ``machine`` holds what is common to all and, as ``parts``, the rest of each;
    warnings are marked with the number of their report.

    Raises:
        ConfigError: there is none, or models or deadlines differ.

    """
    if not reports:
        raise ConfigError("there is no report to merge; name at least one")
    first = reports[0]
    _require_same("models", [report.model.get("sha256", "unknown") for report in reports])
    _require_same("deadlines", [f"{report.deadline_ms:g} ms" for report in reports])
    cases: list[Case] = []
    for found in (case for report in reports for case in report.cases):
        known = next((c for c in cases if (c.level, c.load) == (found.level, found.load)), None)
        if known is None:
            known = Case(found.level, dict(found.load))
            cases.append(known)
        known.runs += found.runs
    commands = list(dict.fromkeys(tuple(report.command) for report in reports))
    return Report(
        command=[word for command in commands for word in ("+", *command)][1:],
        started_utc=min(report.started_utc for report in reports),
        deadline_ms=first.deadline_ms,
        model=dict(first.model),
        machine=_merge_machines([report.machine for report in reports]),
        warnings=_merge_warnings(reports),
        cases=cases,
        complete=all(report.complete for report in reports),
    )


def describe_machine(machine: dict[str, Any]) -> str:
    """Return such as ``AMD EPYC, 2 cores``: the same text for equal machines."""
    model = str(machine.get("jetson") or machine.get("cpu") or machine.get("architecture", "?"))
    return f"{model}, {machine.get('cores', '?')} cores"


def _require_same(what: str, found: list[str]) -> None:
    if len(set(found)) > 1:
        names = ", ".join(dict.fromkeys(text[:12] for text in found))
        raise ConfigError(f"reports of different {what} cannot be merged: {names}; compare them")


def _merge_machines(machines: list[dict[str, Any]]) -> dict[str, Any]:
    first = machines[0]
    common = {
        key: value
        for key, value in first.items()
        if all(key in machine and machine[key] == value for machine in machines)
    }
    rest = [{key: m[key] for key in m if key not in common} for m in machines]
    return {**common, "parts": rest} if any(rest) else common


def _merge_warnings(reports: Sequence[Report]) -> list[str]:
    """Say whether the machines differ, and of which report a warning is, unless all have it."""
    machines = list(dict.fromkeys(describe_machine(report.machine) for report in reports))
    names = "; ".join(machines)
    found = [f"merged from different machines: {names}"] if len(machines) > 1 else []
    common = [w for w in reports[0].warnings if all(w in report.warnings for report in reports)]
    others = [
        f"report {number}: {warning}"
        for number, report in enumerate(reports, 1)
        for warning in report.warnings
        if warning not in common
    ]
    return [*found, *common, *others]
