# SPDX-License-Identifier: Apache-2.0
"""One camera of the node: its subscription, its outputs, and what /diagnostics says of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import qos_policy_name_from_kind
from sensor_msgs.msg import CompressedImage, Image

from perception_node.errors import ConfigError
from perception_node.flow.camera import Camera
from perception_node.flow.camera_health import CameraSnapshot, camera_statuses
from perception_node.flow.deadline import Deadline
from perception_node.ros.compat import (
    TELLS_MATCHES,
    RCLError,
    TakenElsewhere,
    UnsupportedEventTypeError,
    count_publishers,
    make_event_callbacks,
    take_events,
)
from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.image_source import clock_reader
from perception_node.ros.outputs import LOG_PERIOD_S, Outputs
from perception_node.ros.qos import image_overrides, image_qos
from perception_node.ros.result_topics import COMPRESSED, name_prefixes
from perception_node.system.throttle import Throttle
from perception_node.vision.samples import SampleScaler
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.flow.accounts import FrameCounters
    from perception_node.flow.health import Status
    from perception_node.ros.image_source import SubscribedImages
    from perception_node.untyped import RosObject

IMAGE_TYPES = {"raw": Image, "compressed": CompressedImage}
SUFFIXES = {"raw": "", "compressed": COMPRESSED}
HYSTERESIS_S = 1.0  # of ``lazy``: a listener that comes back so soon costs no subscription


@dataclass(frozen=True, slots=True)
class Place:
    """Where a camera is.

    Attributes:
        index: its place in ``image_topics``.
        name: its topic as the parameter has it.
        topic: resolved name of the topic that is subscribed to.
        prefix: where its results go.
        of: which camera, in words for a log, such as " of /front/image"; empty for the only one.

    """

    index: int
    name: str
    topic: str
    prefix: str
    of: str


def find_places(node: LifecycleNode, config: NodeConfig) -> list[Place]:
    """Resolve the topics; a transport's name goes behind the remapped base.

    Raises:
        ConfigError: a topic has no valid name, or results of two cameras have the same.

    """
    names, suffix = config.cameras.image_topics, SUFFIXES[config.cameras.image_transport]
    try:
        bases = [str(node.resolve_topic_name(name)) for name in names]
    except (RCLError, InvalidTopicNameException) as error:
        msg = f"parameter image_topics {list(names)}: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    topics = [f"{base}{suffix}" for base in bases]
    if len(names) == 1:
        return [Place(0, names[0], topics[0], "~", "")]
    prefixes = name_prefixes(bases, node.get_name())
    if len(set(prefixes.values())) < len(bases):
        msg = (
            f"image_topics {', '.join(bases)}: results of two cameras would go to the same topic; "
            "remap them to different namespaces, such as /front/image and /rear/image"
        )
        raise ConfigError(msg)
    return [
        Place(index, names[index], topic, prefixes[bases[index]], f" of {topic}")
        for index, topic in enumerate(topics)
    ]


class CameraTopics:
    """Everything of one camera, from configuring to cleaning up.

    Attributes:
        camera: what the frame loop knows of it.
        delivery: how its images arrive, see ``find_delivery``.
        outputs: its publishers.

    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: FallbackPipeline,
        place: Place,
        get_config: Callable[[], NodeConfig],
        counters: FrameCounters,
    ) -> None:
        """Create the publishers, and find out how images arrive.

        Args:
            node: the owner of publishers and subscription.
            pipeline: the model and its engines.
            place: where the camera is.
            get_config: returns the configuration of the moment.
            counters: the camera's account.

        Raises:
            EnvironmentLacks: no image can arrive.

        """
        config = get_config()
        self._node = node
        self._place = place
        self._is_told_of_matches = TELLS_MATCHES
        self._get_config = get_config
        self._images: SubscribedImages | None = None
        self._subscription: RosObject = None
        self._heard_s = 0.0
        self._throttle = Throttle(LOG_PERIOD_S)
        self._reported = (counters.snapshot(), 0)
        self.delivery = find_delivery(node, IMAGE_TYPES[config.cameras.image_transport])

        def warn(complaint: str) -> None:
            node.get_logger().warning(f"{place.topic}: {complaint}")

        cameras = config.cameras
        self._scaler = SampleScaler(cameras.mono16_range, cameras.mono32_range, warn)
        reader = ImageReader(
            cameras.image_transport,
            cameras.max_image_pixels,
            pipeline.smallest_side,
            cameras.damaged_images,
            self._scaler,
            warn,
        )
        self.outputs = Outputs(node, pipeline, get_config, place.prefix, place.of)
        self.camera = Camera(
            open=reader.open,
            compose=self.outputs.compose,
            send=self.outputs.send,
            report=self.outputs.report,
            counters=counters,
            deadline=Deadline(config.latency.age_reference, clock_reader(node.get_clock())),
            show=self.outputs.show,
            record=self.outputs.record,
        )

    def start(self, images: SubscribedImages) -> None:
        """Let the frame loop have the images; of a lazy node, as soon as somebody listens.

        A lazy node subscribes here as well, for a moment, to see that it can.

        Raises:
            ConfigError: the topic's remapping is itself remapped.

        """
        self._images = images
        self._subscribe(images)
        if self._get_config().cameras.lazy:
            self._unsubscribe()

    def follow_listeners(self) -> None:
        """Of a lazy node: subscribe while somebody listens, and a second longer."""
        images, now_s = self._images, time.monotonic()
        if self.outputs.has_listeners():
            self._heard_s = now_s
            if self._subscription is None and images is not None:
                self.camera.stream.begin(time.monotonic_ns())
                self._subscribe(images)
        elif now_s - self._heard_s > HYSTERESIS_S:
            self._unsubscribe()

    def stop(self) -> None:
        """Take no more images."""
        self._unsubscribe()
        self._images = None

    def _subscribe(self, images: SubscribedImages) -> None:
        gaps = self.camera.counters.gaps
        gaps.begin()
        try:
            subscription = self._make_subscription(self._event_callbacks())
        except UnsupportedEventTypeError:  # the middleware cannot say that images are lost
            self._is_told_of_matches = gaps.tells_losses = False
            subscription = self._make_subscription(None)
        self._subscription = subscription
        if subscription.topic_name != self.topic:
            msg = (
                f"{self.topic} is remapped once more, to {subscription.topic_name}; "
                "remap the camera's topic in one step"
            )
            raise ConfigError(msg)
        images.attach(self._place.index, subscription)

    def _make_subscription(self, events: RosObject) -> RosObject:
        config = self._get_config()
        # A raw topic's own name: ROS would remap the resolved one again.
        name = self._place.name if config.cameras.image_transport == "raw" else self.topic
        return self._node.create_subscription(
            IMAGE_TYPES[config.cameras.image_transport],
            name,
            _take_nothing,
            image_qos(config.cameras.image_qos),
            qos_overriding_options=image_overrides(),
            callback_group=TakenElsewhere(),
            event_callbacks=events,
            raw=self.delivery == BYTES,
        )

    def _unsubscribe(self) -> None:
        try:
            self.follow_events()  # for the account
        finally:
            subscription, self._subscription = self._subscription, None
            if self._images is not None:
                self._images.detach(self._place.index)
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    @property
    def topic(self) -> str:
        """Resolved name of the image topic."""
        return self._place.topic

    def statuses(self, *, clock_stands: bool) -> list[Status]:
        """Describe the camera for /diagnostics, and remember what was said."""
        camera, config, now_ns = self.camera, self._get_config(), time.monotonic_ns()
        self.follow_events()
        (before, lost_before), stream = self._reported, camera.stream
        counts, lost = camera.counters.snapshot(), stream.lost
        self._reported = (counts, lost)
        deadline_ns = config.latency.deadline_ns(self._place.index)
        report = CameraSnapshot(
            topic=self.topic,
            results_topic=self.outputs.results_topic,
            now=counts,
            before=before,
            silent_s=stream.silent_ns(now_ns) / 1e9,
            has_images=stream.has_images,
            clock_stands=clock_stands,
            is_heard=self._subscription is not None,
            rate_hz=stream.rate.rate_hz(now_ns),
            is_rate_at_least=stream.rate.is_at_least,
            identical=stream.identical,
            unusable=stream.unusable,
            range_complaint=self._scaler.complaint,
            publishers=stream.publishers,
            delivery=self.delivery,
            lost=lost,
            lost_before=lost_before,
            incompatible=stream.incompatible,
            deadline_ms=deadline_ns / 1e6,
            ages=camera.ages.summarize(),
            histogram=camera.ages.histogram(deadline_ns),
            predicted_ms=camera.deadline.remaining.predict_ns() / 1e6,
            refusal=camera.deadline.refusal,
        )
        rows = camera_statuses(report, config.health)
        return [replace(row, task=f"{row.task}{self._place.of}") for row in rows]

    def follow_events(self) -> None:
        """Note what the middleware says of the subscription since it was asked last."""
        subscription, stream = self._subscription, self.camera.stream
        if subscription is None:
            return
        take_events(subscription, self._node.context)
        if not self._is_told_of_matches:
            number = count_publishers(self._node, self.topic, subscription.qos_profile)
            if number != stream.publishers:
                self._note_publishers(number, max(0, number - (stream.publishers or 0)))
        self.camera.counters.gaps.confirm()

    def _note_publishers(self, number: int, newcomers: int) -> None:
        self.camera.stream.publishers = number
        self.camera.counters.gaps.match(number, newcomers)

    def _event_callbacks(self) -> RosObject:
        """Follow what the middleware says of the subscription, as far as it says it."""
        stream = self.camera.stream

        def on_lost(event: RosObject) -> None:
            stream.lost += event.total_count_change
            self.camera.counters.gaps.lose(event.total_count_change)

        def on_incompatible(event: RosObject) -> None:
            stream.incompatible = qos_policy_name_from_kind(event.last_policy_kind).lower()
            if not self._throttle.is_due("incompatible QoS"):
                return
            self._node.get_logger().warning(
                f"a publisher of {self.topic} was refused for its {stream.incompatible} QoS; "
                "set image_qos to sensor_data, or change the camera's"
            )

        return make_event_callbacks(on_lost, on_incompatible, self._note_publishers)


def _take_nothing(_message: object) -> None:
    """Stand where rclpy wants a callback: the frame loop takes the images."""
