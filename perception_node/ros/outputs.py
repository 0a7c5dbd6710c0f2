# SPDX-License-Identifier: Apache-2.0
"""What leaves the node for each frame, and what is announced once: labels and model."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from perception_node import health
from perception_node.errors import PerceptionError
from perception_node.ros import messages
from perception_node.ros.qos import LATCHED, named_qos
from perception_node.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from perception_node.config import NodeConfig
    from perception_node.frame import Frame
    from perception_node.pipeline import Prediction
    from perception_node.selection import SelectedPipeline

LOG_PERIOD_S = 5.0
OVERLAY_QOS = "sensor_data"


class Outputs:
    """Publishers and log lines of a configured node; the ``FrameHandler`` of its worker."""

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: SelectedPipeline,
        get_config: Callable[[], NodeConfig],
    ) -> None:
        """Create the publishers and announce the model; ``get_config`` is asked every frame."""
        self._node = node
        self._pipeline = pipeline
        self._get_config = get_config
        self._throttle = Throttle(LOG_PERIOD_S)
        self._version = 0
        self._is_degraded = False
        self.last_infer_ms: float | None = None

        config = get_config()
        create = node.create_lifecycle_publisher
        qos = named_qos(config.classification_qos)
        overrides = QoSOverridingOptions.with_default_policies()
        self._classification = create(
            Classification, "~/classification", qos, qos_overriding_options=overrides
        )
        self._overlay = create(Image, "~/overlay", named_qos(OVERLAY_QOS))
        # Latched topics are not lifecycle-managed: they must be there before activation.
        self._label_info = node.create_publisher(LabelInfo, "~/label_info", LATCHED)
        self._vision_info = node.create_publisher(VisionInfo, "~/vision_info", LATCHED)

    def announce(self, version: int) -> None:
        """Publish the latched messages; ``version`` counts the models this node has loaded."""
        self._version = version
        header = messages.to_header(self._node.get_clock().now().nanoseconds, "")
        threshold = self._get_config().threshold
        labels = self._pipeline.bundle.labels
        self._label_info.publish(messages.to_label_info(header, labels, threshold))
        topic = self._label_info.topic_name
        method = self._describe_method()
        self._vision_info.publish(messages.to_vision_info(header, method, topic, version))

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        for publisher in (self._classification, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)
        for publisher in (self._label_info, self._vision_info):
            self._node.destroy_publisher(publisher)

    def classify(self, frame: Frame) -> Prediction:
        """Run the pipeline with the parameters of this moment."""
        config = self._get_config()
        try:
            prediction = self._pipeline.run(frame, top_k=config.top_k, threshold=config.threshold)
        finally:  # the standby may have failed as well
            if self._pipeline.lost is not None and not self._is_degraded:
                self._is_degraded = True
                self._report_loss(self._pipeline.lost)
        self.last_infer_ms = prediction.times.infer_ns / 1e6
        return prediction

    def publish(self, prediction: Prediction) -> None:
        """Publish ``~/classification``."""
        class_id_format = self._get_config().class_id_format
        self._classification.publish(messages.to_classification(prediction, class_id_format))

    def after_publish(self, frame: Frame, prediction: Prediction) -> None:
        """Publish ``~/overlay`` if somebody looks at it."""
        if self._overlay.get_subscription_count() == 0:
            return
        header = messages.to_header(frame.stamp_ns, frame.frame_id)
        picture = self._pipeline.draw(frame, prediction)
        self._overlay.publish(messages.to_image(header, picture))

    def _describe_method(self) -> str:
        """Say what makes the results: the model, and the engine that really runs."""
        pipeline = self._pipeline
        why = pipeline.reason if pipeline.lost is None else health.describe_loss(pipeline.lost)
        return f"{pipeline.bundle.manifest.name} on {pipeline.description} ({why})"

    def _report_loss(self, error: Exception) -> None:
        """Say, once, that another engine has taken over."""
        self._node.get_logger().error(
            f"degraded: the engine was lost ({health.describe_loss(error)}); "
            f"{self._pipeline.description} took over; clean up and configure to try again"
        )
        if not isinstance(error, PerceptionError):
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"the engine was lost to a bug:\n{trace}")
        self.announce(self._version)

    def report(self, error: Exception) -> None:
        """Log why a frame was lost, one line per cause every few seconds."""
        if not self._node.context.ok():
            return  # shutting down: publishing fails by design
        subject: Any = getattr(error, "kind", type(error).__name__)
        if not self._throttle.is_due(subject):
            return
        if isinstance(error, PerceptionError):
            self._node.get_logger().warning(f"frame dropped ({subject}): {error}")
        else:
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"frame lost to a bug:\n{trace}")
