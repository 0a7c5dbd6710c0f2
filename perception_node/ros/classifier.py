# SPDX-License-Identifier: Apache-2.0
"""The model of a configured node: classifies for every camera, says once what becomes of it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from perception_node import health
from perception_node.errors import PerceptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from perception_node.config import NodeConfig
    from perception_node.fallback import FallbackPipeline
    from perception_node.frame import Frame
    from perception_node.pipeline import Prediction


class Classifier:
    """Runs one pipeline, from the worker's thread.

    Attributes:
        pipeline: the model and its engine.
        infer_ms: how long the last inference took, None before the first.

    """

    def __init__(
        self, pipeline: FallbackPipeline, node: LifecycleNode, on_loss: Callable[[], None]
    ) -> None:
        """Take over ``pipeline``; ``on_loss`` is called once another engine has taken over."""
        self.pipeline = pipeline
        self.infer_ms: float | None = None
        self._node = node
        self._on_loss = on_loss
        self._is_degraded = False

    def classify(self, frame: Frame, config: NodeConfig) -> Prediction:
        """Run the pipeline.

        Raises:
            EngineError: the engine failed on this frame, and so did the one that stands by.

        """
        try:
            prediction = self.pipeline.run(frame, top_k=config.top_k, threshold=config.threshold)
        finally:  # the standby may have failed as well
            if self.pipeline.lost is not None and not self._is_degraded:
                self._is_degraded = True
                self._report_loss(self.pipeline.lost)
        self.infer_ms = prediction.times.infer_ns / 1e6
        return prediction

    def describe_method(self) -> str:
        """Say what makes the results: the model, and the engine that really runs."""
        pipeline = self.pipeline
        why = pipeline.reason if pipeline.lost is None else health.describe_loss(pipeline.lost)
        return f"{pipeline.bundle.manifest.name} on {pipeline.description} ({why})"

    def status(self) -> health.Status:
        """Describe the engine for /diagnostics."""
        pipeline = self.pipeline
        return health.engine_status(
            pipeline.bundle.manifest.name,
            pipeline.description,
            pipeline.reason,
            pipeline.lost,
            is_exhausted=pipeline.is_exhausted,
        )

    def _report_loss(self, error: Exception) -> None:
        """Say, once, that another engine has taken over, or that none is left."""
        engine, why = self.pipeline.description, health.describe_loss(error)
        outcome = "no engine is left" if self.pipeline.is_exhausted else f"{engine} took over"
        self._node.get_logger().error(
            f"degraded: the engine was lost ({why}); {outcome}; "
            "clean up and configure to try again"
        )
        if not isinstance(error, PerceptionError):
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"the engine was lost to a bug:\n{trace}")
        self._on_loss()
