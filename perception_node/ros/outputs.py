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
from perception_node.flow.rate import RateLimit
from perception_node.ros import messages
from perception_node.ros.qos import LATCHED, named_qos
from perception_node.system.throttle import Throttle
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode
    from rclpy.qos import QoSProfile

    from perception_node.config.node_config import NodeConfig
    from perception_node.config.sections import ClassIdFormat, QosName
    from perception_node.engines.pipeline import Prediction
    from perception_node.flow.latency import FrameTrace
    from perception_node.ros.classifier import Classifier
    from perception_node.vision.frame import Frame

LOG_PERIOD_S = 5.0
OVERLAY_QOS: QosName = "sensor_data"
LATENCY_QOS: QosName = "default"


class Outputs:
    """Publishers and log lines of one camera; the ``FrameHandler`` of the frame loop."""

    def __init__(
        self,
        node: LifecycleNode,
        classifier: Classifier,
        get_config: Callable[[], NodeConfig],
        prefix: str,
        of: str,
    ) -> None:
        """Create the publishers.

        Args:
            node: owner of the publishers.
            classifier: runs the model.
            get_config: returns the configuration of the moment.
            prefix: where the topics are: ``~`` or a camera's namespace.
            of: which camera's, in words for a log, such as " of /front/image"; may be empty.

        """
        config = get_config()
        self._node = node
        self._classifier = classifier
        self._get_config = get_config
        self._of = of
        self._overlay_limit = RateLimit()
        self._throttle = Throttle(LOG_PERIOD_S)
        pipeline = classifier.pipeline
        reader = ImageReader(
            config.cameras.image_transport,
            config.cameras.max_image_pixels,
            pipeline.smallest_side,
            config.cameras.damaged_images,
        )
        self.open = reader.open
        self._make_message: Callable[[Prediction, ClassIdFormat], bytes | Classification] = (
            messages.serialize_classification
            if messages.knows_classification()
            else messages.to_classification
        )

        # rclpy keeps a few references for each publisher in its group, and in the node's own
        # group it would keep them until the node ends.
        group = MutuallyExclusiveCallbackGroup()
        with ExitStack() as made:

            def create(kind: type, name: str, qos: QoSProfile, **options: Any) -> Any:  # noqa: ANN401 - rclpy's publisher
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
            self._overlay = create(Image, "overlay", named_qos(OVERLAY_QOS))
            self._latency = create(DiagnosticArray, "latency", named_qos(LATENCY_QOS))
            self._label_info = create(LabelInfo, "label_info", LATCHED)
            self._vision_info = create(VisionInfo, "vision_info", LATCHED)
            self._undo = made.pop_all()

    @property
    def results_topic(self) -> str:
        """Resolved name of ``~/classification``."""
        return str(self._classification.topic_name)

    def has_listeners(self) -> bool:
        """Tell whether somebody subscribes to a result, picture or latency of this camera."""
        return any(
            publisher.get_subscription_count() > 0
            for publisher in (self._classification, self._overlay, self._latency)
        )

    def announce(self, version: int, threshold: float) -> None:
        """Publish the latched messages; ``version`` counts the models this node has loaded."""
        header = messages.to_header(self._node.get_clock().now().nanoseconds, "")
        labels = self._classifier.pipeline.bundle.labels
        self._label_info.publish(messages.to_label_info(header, labels, threshold))
        topic, method = self._label_info.topic_name, self._classifier.describe_method()
        self._vision_info.publish(messages.to_vision_info(header, method, topic, version))

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        self._undo.close()

    def compose(self, prediction: Prediction, config: NodeConfig) -> bytes | Classification:
        """Make the message for ``~/classification``."""
        return self._make_message(prediction, config.output.class_id_format)

    def send(self, result: Any) -> None:  # noqa: ANN401 - what compose() made
        """Publish ``~/classification``."""
        self._classification.publish(result)

    def after_publish(self, frame: Frame, prediction: Prediction) -> None:
        """Publish ``~/overlay`` if somebody looks at it, and the last one is old enough."""
        if self._overlay.get_subscription_count() == 0:
            return
        max_rate_hz = self._get_config().output.overlay_rate_hz
        if not self._overlay_limit.admits(time.monotonic_ns(), max_rate_hz):
            return
        header = messages.to_header(frame.stamp_ns, frame.frame_id)
        picture = self._classifier.pipeline.draw(frame, prediction)
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
