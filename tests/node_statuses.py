# SPDX-License-Identifier: Apache-2.0
"""What a node without any trouble says of itself, as the live view has it."""

from __future__ import annotations

from perception_node.live.node_status import CameraStatus, NodeStatus

FACTS = {
    "rate_hz": 30.0,
    "deadline_ms": 100.0,
    "counters": {
        "received": 1234,
        "published": 1200,
        "superseded": 30,
        "stale": 3,
        "late": 1,
        "malformed": 0,
        "failed": 0,
    },
    "ages": {"p50_ms": 11.3, "p99_ms": 14.6, "max_ms": 20.1},
    "histogram": {"bin_ms": 2.0, "counts": [0] * 5 + [40, 8, 2, 1] + [0] * 41},
}
ENGINE = {"model": "colors", "description": "ONNX Runtime", "reason": "a test", "level": "ok"}
HEALTHY = NodeStatus(
    is_active=True,
    level="ok",
    summary="images are classified in time",
    alarms=[],
    engine=ENGINE,
    cameras=(CameraStatus("/image", "", FACTS),),
)
