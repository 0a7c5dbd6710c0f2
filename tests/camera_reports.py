# SPDX-License-Identifier: Apache-2.0
"""A camera that is as it should be, as the node's health check sees it."""

from __future__ import annotations

from perception_node.flow.accounts import FrameCounts
from perception_node.flow.camera_health import CameraSnapshot
from perception_node.flow.deadline import AgeHistogram, AgeSummary

BEFORE = FrameCounts(received=100, published=90, superseded=10)
NOW = FrameCounts(received=200, published=180, superseded=20)
GOOD = CameraSnapshot(
    topic="/front/image",
    results_topic="/front/perception/classification",
    now=NOW,
    before=BEFORE,
    silent_s=0.03,
    has_images=True,
    clock_stands=False,
    is_heard=True,
    rate_hz=30.0,
    is_rate_at_least=False,
    identical=0,
    unusable="",
    range_complaint="",
    delivery="bytes",
    publishers=1,
    lost=0,
    lost_before=0,
    incompatible="",
    deadline_ms=100.0,
    ages=AgeSummary(20.0, 40.25, 55.0),
    histogram=AgeHistogram(2.0, [0, 90, 0]),
    predicted_ms=12.34,
    refusal="",
)
