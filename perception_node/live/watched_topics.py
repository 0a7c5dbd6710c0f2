# SPDX-License-Identifier: Apache-2.0
"""Which topics of a watched node belong to which camera, and the subscriptions to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo

from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.qos import LATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from perception_node.live.node_status import CameraStatus
    from perception_node.untyped import Message, RosObject


@dataclass(frozen=True, eq=False)  # rclpy's QoS has no hash
class Output:
    """What a node publishes for each camera.

    Attributes:
        name: the last part of its topic.
        kind: class of the messages.
        type_name: the same, as the graph calls it.
        qos: what fits the node's publisher and costs it least: nothing is sent twice.
        is_image: the messages are pictures, which are not made Python objects of where it can be.

    """

    name: str
    kind: type
    type_name: str
    qos: QoSProfile
    is_image: bool = False


LABELS = Output("label_info", LabelInfo, "vision_msgs/msg/LabelInfo", LATCHED)
RESULTS = Output(
    "classification", Classification, "vision_msgs/msg/Classification", qos_profile_sensor_data
)
PICTURES = Output(
    "overlay", Image, "sensor_msgs/msg/Image", qos_profile_sensor_data, is_image=True
)


class WatchedTopic(NamedTuple):
    """A topic that is to be subscribed to: of which camera, and for what."""

    camera: str
    output: Output
    topic: str


def find_topics(
    cameras: Sequence[CameraStatus],
    published: Mapping[str, Sequence[str]],
    outputs: Iterable[Output],
) -> set[WatchedTopic]:
    """Return where the outputs of some cameras are.

    Args:
        cameras: as the node's /diagnostics name them.
        published: types by topic, of all that the node publishes.
        outputs: which are looked for; what the node does not publish is left out.

    """
    found = set()
    for output in outputs:
        topics = [topic for topic, types in published.items() if output.type_name in types]
        for camera in cameras:
            prefix = camera.results_topic.rpartition("/")[0]
            own = f"{prefix}/{output.name}" if output is not RESULTS else camera.results_topic
            # The only one is the one, by whatever name; nodes of old do not say theirs. Of several
            # cameras it is not: the others' topics may not have been discovered yet.
            is_only = len(topics) == len(cameras) == 1
            topic = own if own in topics else topics[0] if is_only else None
            if topic is not None:
                found.add(WatchedTopic(camera.topic, output, topic))
    return found


class WatchedTopics:
    """Subscriptions that follow what is wanted. Used from the executor's thread."""

    def __init__(self, node: Node, on_message: Callable[[WatchedTopic, Message], None]) -> None:
        """Subscribe with ``node``; ``on_message`` gets every message."""
        self._node, self._on_message = node, on_message
        self._subscriptions: dict[WatchedTopic, RosObject] = {}

    def __contains__(self, watched: object) -> bool:
        """Tell whether a topic is subscribed to."""
        return watched in self._subscriptions

    def follow(self, wanted: set[WatchedTopic]) -> None:
        """Subscribe to what is wanted and not to anything else."""
        for watched in self._subscriptions.keys() - wanted:
            self._node.destroy_subscription(self._subscriptions.pop(watched))
        for watched in wanted - self._subscriptions.keys():
            self._subscriptions[watched] = self._subscribe(watched)

    def _subscribe(self, watched: WatchedTopic) -> RosObject:
        output = watched.output
        return self._node.create_subscription(
            output.kind,
            watched.topic,
            lambda message: self._on_message(watched, message),
            output.qos,
            # rclpy would keep a few references to each in the node's own group.
            callback_group=MutuallyExclusiveCallbackGroup(),
            raw=output.is_image and find_delivery(self._node, output.kind) == BYTES,
        )
