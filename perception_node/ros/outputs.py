# SPDX-License-Identifier: Apache-2.0
"""What leaves the node for each frame of a camera, and what is announced once: labels, model."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from perception_node.errors import PerceptionError
from perception_node.flow.deadline import RateLimit
from perception_node.ros import messages
from perception_node.ros.qos import LATCHED, named_qos
from perception_node.system.throttle import Throttle
from perception_node.vision.frame import Unpacker
from perception_node.vision.overlay import draw_overlay

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode
    from rclpy.qos import QoSProfile

    from perception_node.config.node_config import NodeConfig
    from perception_node.config.sections import OutputConfig, QosName
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.engines.pipeline import Prediction
    from perception_node.flow.camera import FrameTrace
    from perception_node.untyped import Passed, RosObject
    from perception_node.vision.frame import Frame

LOG_PERIOD_S = 5.0
OVERLAY_QOS: QosName = "sensor_data"
LATENCY_QOS: QosName = "default"


class Outputs:
    """Publishers and log lines of one camera.

    Attributes:
        compose: makes the message for ``~/classification``.
        results_topic: resolved name of ``~/classification``.
        send: publishes it; rclpy's own function, with nothing of ours before it.

    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: FallbackPipeline,
        get_config: Callable[[], NodeConfig],
        prefix: str,
        of: str,
    ) -> None:
        """Create the publishers.

        Args:
            node: owner of the publishers.
            pipeline: the model and its engines.
            get_config: returns the configuration of the moment.
            prefix: where the topics are: ``~`` or a camera's namespace.
            of: which camera's, in words for a log, such as " of /front/image"; may be empty.

        """
        config = get_config()
        self._node = node
        self._pipeline = pipeline
        self._get_config = get_config
        self._of = of
        self._overlay_limit = RateLimit()
        self._throttle = Throttle(LOG_PERIOD_S)
        self._unpacker = Unpacker()
        self.compose: Callable[[Prediction, OutputConfig], bytes | Classification] = (
            messages.serialize_classification
            if messages.knows_classification()
            else messages.to_classification
        )

        # rclpy keeps a few references for each publisher in its group, and in the node's own
        # group it would keep them until the node ends.
        group = MutuallyExclusiveCallbackGroup()
        with ExitStack() as made:

            def create(kind: type, name: str, qos: QoSProfile, **options: Passed) -> RosObject:
                # Latched topics are not lifecycle-managed: they must be there before activation.
                is_latched = qos is LATCHED
                make = node.create_publisher if is_latched else node.create_lifecycle_publisher
                publisher = make(kind, f"{prefix}/{name}", qos, callback_group=group, **options)
                made.callback(node.destroy_lifecycle_publisher, publisher)
                return publisher

            overrides = QoSOverridingOptions.with_default_policies()
            qos = named_qos(config.output.classification_qos)
            self._classification = create(
                Classification, "classification", qos, qos_overriding_options=overrides
            )
            self.results_topic = str(self._classification.topic_name)
            self.send: Callable[[bytes | Classification], None] = self._classification.publish
            self._overlay = create(Image, "overlay", named_qos(OVERLAY_QOS))
            self._latency = create(DiagnosticArray, "latency", named_qos(LATENCY_QOS))
            self._label_info = create(LabelInfo, "label_info", LATCHED)
            self._vision_info = create(VisionInfo, "vision_info", LATCHED)
            self._undo = made.pop_all()

    def has_listeners(self) -> bool:
        """Tell whether somebody subscribes to a result, picture or latency of this camera."""
        return any(
            publisher.get_subscription_count() > 0
            for publisher in (self._classification, self._overlay, self._latency)
        )

    def announce(self, version: int, threshold: float) -> None:
        """Publish the latched messages; ``version`` counts the models this node has loaded."""
        header = messages.to_header(self._node.get_clock().now().nanoseconds, "")
        labels = self._pipeline.bundle.labels
        self._label_info.publish(messages.to_label_info(header, labels, threshold))
        topic, method = self._label_info.topic_name, self._pipeline.method
        self._vision_info.publish(messages.to_vision_info(header, method, topic, version))

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        self._undo.close()

    def show(self, frame: Frame, prediction: Prediction) -> None:
        """Publish ``~/overlay`` if somebody looks at it, and the last one is old enough."""
        if self._overlay.get_subscription_count() == 0:
            return
        max_rate_hz = self._get_config().output.overlay_rate_hz
        if not self._overlay_limit.admits(time.monotonic_ns(), max_rate_hz):
            return
        header = messages.to_header(frame.stamp_ns, frame.frame_id)
        picture = draw_overlay(*self._unpacker.unpack(frame), prediction.hypotheses)
        self._overlay.publish(messages.to_image(header, picture))

    def record(self, trace: FrameTrace) -> None:
        """Publish ``~/latency`` if somebody looks at it."""
        if self._latency.get_subscription_count() > 0:
            self._latency.publish(messages.to_latency(trace, self._node.get_name()))

    def report(self, error: Exception) -> None:
        """Log why a frame was lost, one line per cause every few seconds."""
        if not self._node.context.ok():
            return  # shutting down: publishing fails by design
        subject: Any = getattr(error, "kind", type(error).__name__)
        if not self._throttle.is_due(subject):
            return
        if isinstance(error, PerceptionError):
            self._node.get_logger().warning(f"frame{self._of} dropped ({subject}): {error}")
        else:
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"frame{self._of} lost to a bug:\n{trace}")
