# SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its subscription, its outputs, and what /diagnostics says of it."""

from __future__ import annotations

import inspect
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import qos_policy_name_from_kind
from sensor_msgs.msg import CompressedImage, Image

from perception_node.camera import Camera
from perception_node.camera_health import CameraReport, camera_statuses
from perception_node.deadline import Deadline
from perception_node.errors import ConfigError
from perception_node.ros.outputs import LOG_PERIOD_S, Outputs
from perception_node.ros.qos import image_overrides, image_qos
from perception_node.throttle import Throttle

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from perception_node.config import NodeConfig
    from perception_node.counters import FrameCounters
    from perception_node.health import Status
    from perception_node.ros.classifier import Classifier

IMAGE_TYPES = {"raw": Image, "compressed": CompressedImage}


def image_topics(node: LifecycleNode, config: NodeConfig) -> list[str]:
    """Return the resolved topics; a transport's name goes behind the remapped base."""
    suffix = "" if config.image_transport == "raw" else f"/{config.image_transport}"
    return [f"{node.resolve_topic_name(topic)}{suffix}" for topic in config.image_topics]


def output_prefixes(node: LifecycleNode, config: NodeConfig) -> list[str]:
    """Return where results go: ``~``, or each camera's namespace if there are several.

    Raises:
        ConfigError: two cameras share a namespace.

    """
    if len(config.image_topics) == 1:
        return ["~"]
    bases = [str(node.resolve_topic_name(topic)) for topic in config.image_topics]
    namespaces = [base.rpartition("/")[0] for base in bases]
    if len(set(namespaces)) < len(namespaces):
        msg = (
            f"image_topics {', '.join(bases)} must be in different namespaces, because the "
            "results go there; remap them, such as /front/image and /rear/image"
        )
        raise ConfigError(msg)
    return [f"{namespace}/{node.get_name()}" for namespace in namespaces]


class CameraTopics:
    """Everything of one camera, from configuring to cleaning up.

    Attributes:
        camera: what the worker knows of it.
        outputs: its publishers.

    """

    def __init__(
        self,
        node: LifecycleNode,
        classifier: Classifier,
        index: int,
        get_config: Callable[[], NodeConfig],
        counters: FrameCounters,
    ) -> None:
        """Create the publishers.

        Args:
            node: the owner of publishers and subscription.
            classifier: the model.
            index: the camera's place in ``image_topics``.
            get_config: returns the configuration of the moment.
            counters: the camera's account.

        Raises:
            ConfigError: see ``output_prefixes``.

        """
        config = get_config()
        self._node = node
        self._index = index
        self._get_config = get_config
        self._topic = image_topics(node, config)[index]
        self._is_alone = len(config.image_topics) == 1
        self._subscription: Any = None
        self._throttle = Throttle(LOG_PERIOD_S)
        self._reported = (counters.snapshot(), 0)
        prefix = output_prefixes(node, config)[index]
        of = "" if self._is_alone else f" of {self._topic}"
        clock = node.get_clock()
        deadline = Deadline(config.age_reference, lambda: clock.now().nanoseconds)
        self.outputs = Outputs(node, classifier, config, prefix, of)
        self.camera = Camera(self.outputs, counters, deadline)

    def subscribe(self, submit: Callable[[int, bytes], None]) -> None:
        """Hand every image to ``submit``, with the camera's index."""
        config, stream = self._get_config(), self.camera.stream

        def on_image(message: bytes) -> None:
            submit(self._index, message)

        def on_numbered_image(message: bytes, info: dict[str, Any]) -> None:
            stream.follow(info["publication_sequence_number"])
            submit(self._index, message)

        self._subscription = self._node.create_subscription(
            IMAGE_TYPES[config.image_transport],
            self._topic,
            # EventsExecutor cannot hand over the second argument.
            on_image if config.executor == "events" else on_numbered_image,
            image_qos(config.image_qos),
            qos_overriding_options=image_overrides(),
            callback_group=MutuallyExclusiveCallbackGroup(),  # see Outputs
            event_callbacks=self._event_callbacks(),
            raw=True,
        )

    def unsubscribe(self) -> None:
        """Take no more images."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def account(self) -> str:
        """Return the account of the frames as a line for a log."""
        of = "" if self._is_alone else f" of {self._topic}"
        return f"frames{of}: {self.camera.counters.snapshot()}"

    @property
    def topic(self) -> str:
        """Resolved name of the image topic."""
        return self._topic

    def statuses(self, *, clock_stands: bool) -> list[Status]:
        """Describe the camera for /diagnostics, and remember what was said."""
        camera, config, now_ns = self.camera, self._get_config(), time.monotonic_ns()
        (before, lost_before), stream = self._reported, camera.stream
        counts, lost = camera.counters.snapshot(), stream.lost
        self._reported = (counts, lost)
        report = CameraReport(
            topic=self._topic,
            now=counts,
            before=before,
            silent_s=stream.silent_ns(now_ns) / 1e9,
            has_images=stream.has_images,
            clock_stands=clock_stands,
            rate_hz=stream.rate_hz(now_ns),
            identical=stream.identical,
            publishers=stream.publishers,
            lost=lost,
            lost_before=lost_before,
            replaced=stream.replaced,
            incompatible=stream.incompatible,
            deadline_ms=config.deadline_ns(self._index) / 1e6,
            ages=camera.ages.summarize(),
            predicted_ms=camera.deadline.remaining.predict_ns() / 1e6,
            refusal=camera.deadline.refusal,
        )
        rows = camera_statuses(report, config)
        if self._is_alone:
            return rows
        return [replace(row, task=f"{row.task} of {self._topic}") for row in rows]

    def _event_callbacks(self) -> SubscriptionEventCallbacks:
        """Follow what the middleware says of the subscription, as far as it says it."""
        stream = self.camera.stream

        def on_lost(event: Any) -> None:  # noqa: ANN401 - rclpy's events are untyped
            stream.lost += event.total_count_change

        def on_matched(event: Any) -> None:  # noqa: ANN401
            stream.match(event.current_count)

        def on_incompatible(event: Any) -> None:  # noqa: ANN401
            stream.incompatible = qos_policy_name_from_kind(event.last_policy_kind).lower()
            if not self._throttle.is_due("incompatible QoS"):
                return
            self._node.get_logger().warning(
                f"a publisher of {self._topic} was refused for its {stream.incompatible} QoS; "
                "set image_qos to sensor_data, or change the camera's"
            )

        wanted = {
            "message_lost": on_lost,
            "matched": on_matched,
            "incompatible_qos": on_incompatible,
        }
        known = inspect.signature(SubscriptionEventCallbacks.__init__).parameters
        return SubscriptionEventCallbacks(**{k: v for k, v in wanted.items() if k in known})
