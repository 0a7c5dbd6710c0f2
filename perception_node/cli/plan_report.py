# SPDX-License-Identifier: Apache-2.0
"""How ``perception build`` and ``perception inspect`` show a stored plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from perception_node.engines.tensorrt.machine import differences_to_this_machine
from perception_node.terminal.console import print_rows
from perception_node.terminal.output import say_record

if TYPE_CHECKING:
    from perception_node.engines.plans import StoredPlan

NOT_TO_RUN = "built without a GPU: shows that the model can be built, is never run"
UNSHOWN = "inspection"  # every detail of every layer; it stays in the manifest


def to_record(plan: StoredPlan) -> dict[str, Any]:
    """Return what is known of a plan as JSON."""
    differences = differences_to_this_machine(plan.fingerprint)
    return {
        "name": plan.name,
        "manifest": str(plan.path),
        "plan": str(plan.path.parent / plan.plan_file),
        "sha256": plan.plan_sha256,
        "bytes": plan.plan_bytes,
        "created_utc": plan.created_utc,
        "fingerprint": asdict(plan.fingerprint),
        "runs_here": bool(plan.fingerprint.gpu) and not differences,
        "differences": differences,
        "details": {key: value for key, value in plan.details.items() if key != UNSHOWN},
    }


def show_plan(plan: StoredPlan, *, as_json: bool) -> None:
    """Print all of it, for people or for machines."""
    record = to_record(plan)
    if as_json:
        say_record(record)
        return
    details = record["details"]
    rows = [
        ("plan", record["plan"]),
        ("size", f"{plan.plan_bytes / 1e6:.1f} MB, sha256 {plan.plan_sha256}"),
        ("built", f"{plan.created_utc}, in {details.get('build_s', '?')} s"),
        ("runs here", verdict(record)),
        ("accepted", describe_acceptance(details.get("acceptance", {}))),
    ]
    rows += [(key, _show(value)) for key, value in asdict(plan.fingerprint).items()]
    print_rows(rows)
    for title in ("network_layers", "engine_layers"):
        if details.get(title):
            print_rows(layer_rows(title, details[title]))


def verdict(record: dict[str, Any]) -> str:
    """Return in words whether a plan, as ``to_record`` shows it, runs on this machine."""
    if record["differences"]:
        return "no: " + "; ".join(record["differences"])
    return "yes" if record["runs_here"] else f"no: {NOT_TO_RUN}"


def describe_acceptance(acceptance: dict[str, Any]) -> str:
    """Return in words how the check after the build went."""
    if not acceptance.get("done"):
        return f"no: {acceptance.get('why', 'unknown')}"
    return (
        f"yes: differs from ONNX Runtime by {acceptance['difference']:.2g} of the output's range "
        f"(allowed {acceptance['tolerance']:g}), same label for {acceptance['same_label']} of "
        f"{acceptance['images']} images, {acceptance['infer_ms']:.2f} ms"
    )


def layer_rows(title: str, layers: dict[str, dict[str, int]]) -> list[tuple[str, ...]]:
    """Return the number of layers per class and precision, with a heading."""
    precisions = sorted({name for counts in layers.values() for name in counts})
    rows = [(title, *precisions)]
    for kind, counts in layers.items():
        rows.append((f"  {kind}", *(str(counts.get(name, "")) for name in precisions)))
    return rows


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each is not None)
    return str(value) or "none"
