# SPDX-License-Identifier: Apache-2.0
"""What ``perception calibrate --keep-float`` says: the worst convolutions, the gain, the cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from perception_node.terminal.console import print_rows
from perception_node.terminal.output import say

if TYPE_CHECKING:
    from perception_node.calibration.mixed_precision import Mixed

SHOWN = 10


def show_mixed(mixed: Mixed) -> None:
    """Print the worst convolutions and those in float, and what these bring and cost."""
    kept = mixed.kept
    rows = [("alone in int8", "output error", "label flips", "")]
    for each in mixed.ranking[: max(SHOWN, len(kept.convolutions))]:
        mark = "float" if each.convolution in kept.convolutions else "int8"
        flips = f"{each.flips} of {each.images}"
        rows.append((each.convolution, f"{each.error:.4%}", flips, mark))
    print_rows(rows)
    say(
        f"{len(kept.convolutions)} of {len(mixed.ranking)} convolutions stay in float: "
        f"same label {kept.agreement_without:.1%} -> {kept.agreement:.1%}, "
        f"CPU {kept.latency_without_ms:.2f} -> {kept.latency_ms:.2f} ms "
        f"(float32 {kept.latency_float32_ms:.2f} ms)"
    )
    say("")


def mixed_record(mixed: Mixed) -> dict[str, object]:
    """Return the same, and all convolutions, for machines."""
    return {
        "kept_float": asdict(mixed.kept),
        "sensitivity": [asdict(each) for each in mixed.ranking],
    }
