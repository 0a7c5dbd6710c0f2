# SPDX-License-Identifier: Apache-2.0
"""What a configured node says of its engines: in the log, in /diagnostics, beside the labels."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from perception_node.engines.base import describe_loss
from perception_node.errors import PerceptionError
from perception_node.flow import health

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from perception_node.engines.fallback import FallbackPipeline


class Classifier:
    """The engines of a configured node, in words.

    Attributes:
        pipeline: the model and its engines.

    """

    def __init__(self, pipeline: FallbackPipeline, node: LifecycleNode) -> None:
        """Take over ``pipeline``."""
        self.pipeline = pipeline
        self._node = node

    def describe_method(self) -> str:
        """Say what makes the results: the model, and the engine that really runs."""
        pipeline = self.pipeline
        why = pipeline.reason if pipeline.lost is None else describe_loss(pipeline.lost)
        return f"{pipeline.bundle.manifest.name} on {pipeline.description} ({why})"

    def status(self) -> health.Status:
        """Describe the engine for /diagnostics."""
        pipeline = self.pipeline
        return health.engine_status(
            pipeline.bundle.manifest.name,
            pipeline.description,
            pipeline.reason,
            pipeline.lost,
            outlook=pipeline.outlook if pipeline.is_exhausted else None,
        )

    def report_change(self) -> None:
        """Say that another engine has taken over, or that none is left."""
        error = self.pipeline.lost
        if error is None:
            return
        engine, why = self.pipeline.description, describe_loss(error)
        outcome = f"{engine} took over; clean up and configure to try again"
        if self.pipeline.is_exhausted:
            outcome = f"no engine is left; {self.pipeline.outlook}"
        self._node.get_logger().error(f"degraded: the engine was lost ({why}); {outcome}")
        if not isinstance(error, PerceptionError):
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"the engine was lost to a bug:\n{trace}")
