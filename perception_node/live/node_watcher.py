# SPDX-License-Identifier: Apache-2.0
"""Watch a node for the page: follow it in the graph, hear it, and cost it next to nothing."""

from __future__ import annotations

import secrets
import time
from logging import getLogger
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import NodeNameNonExistentError
from rclpy.serialization import deserialize_message
from rclpy.validate_full_topic_name import validate_full_topic_name

from perception_node.config.sections import CameraConfig
from perception_node.errors import ConfigError, quote
from perception_node.live.node_status import read_status
from perception_node.live.watched_topics import (
    LABELS,
    PICTURES,
    RESULTS,
    WatchedTopic,
    WatchedTopics,
    find_topics,
)
from perception_node.ros.background_node import BackgroundNode
from perception_node.ros.messages import to_statuses
from perception_node.wire.images import ImageReader

if TYPE_CHECKING:
    from rclpy.node import Node

    from perception_node.live.live_view import LiveView
    from perception_node.live.node_status import NodeStatus
    from perception_node.untyped import Message

LOOK_PERIOD_S = 0.25  # at the graph, and at how many look at us
SILENT_S = 5.0  # a node whose /diagnostics stop for so long, or for three periods, is not there
SILENT_PERIODS = 3
OVERLAY_ENCODING = "bgr8"
logger = getLogger("perception.serve")


class NodeWatcher:
    """Fills a ``LiveView`` from entering to leaving, on a thread of its own."""

    def __init__(self, live: LiveView) -> None:
        """Prepare to watch the node and the domain that ``live`` names."""
        self._live = live
        self._prefix = f"{live.node.lstrip('/')}: "  # of its rows in /diagnostics
        self._is_in_graph = self._is_shown = self._is_viewed = False
        self._heard_s: float | None = None  # steady time of its last /diagnostics
        self._period_s = 0.0  # between its last two
        self._status: NodeStatus | None = None
        self._labels: dict[str, dict[str, str]] = {}  # names by class_id, of each camera
        self._read_image = ImageReader("raw", CameraConfig().max_image_pixels, 0).read
        name = f"perception_page_{secrets.token_hex(3)}"  # several may watch
        self._background = BackgroundNode(name, live.domain, self._set_up, self._warn)

    def __enter__(self) -> NodeWatcher:
        """Join the ROS graph.

        Raises:
            ConfigError: the node cannot have that name, or the domain that number.

        """
        _check_name(self._live.node)
        self._background.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the graph."""
        self._background.__exit__(*exception)

    def _set_up(self, node: Node) -> None:
        self._node = node
        self._topics = WatchedTopics(node, self._on_message)
        hear = self._on_diagnostics
        node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10, raw=True)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(LOOK_PERIOD_S, self._look, clock=steady)

    def _warn(self, survived: str) -> None:
        logger.warning("%s cannot be watched as it should be: %s", self._live.node, survived)

    def _look(self) -> None:
        """Follow the node: is it there, what does it publish, does anybody look?"""
        published = self._find_published()
        self._is_in_graph = published is not None
        if not self._is_in_graph:
            self._heard_s = self._status = None
        absence = self._explain_absence()
        if absence:
            self._live.show_absence(absence)
            self._is_shown = False
        elif not self._is_shown:
            self._show()
        is_viewed = self._live.viewers_now > 0
        cameras = self._status.cameras if self._status else ()
        outputs = (LABELS, RESULTS, PICTURES) if is_viewed else (LABELS,)
        self._topics.follow(find_topics(cameras, published or {}, outputs))
        for gone in self._labels.keys() - {camera.topic for camera in cameras}:
            del self._labels[gone]  # the next node of this name may have another model
        if self._is_viewed and not is_viewed:
            self._live.forget_results()
        self._is_viewed = is_viewed
        self._live.note_look()

    def _find_published(self) -> dict[str, list[str]] | None:
        """Return the types of all that the node publishes, by topic; None if it is not there."""
        namespace, _, name = self._live.node.rpartition("/")
        namespace = namespace or "/"
        if (name, namespace) not in self._node.get_node_names_and_namespaces():
            return None
        try:
            return dict(self._node.get_publisher_names_and_types_by_node(name, namespace))
        except NodeNameNonExistentError:  # it has left meanwhile
            return None

    def _explain_absence(self) -> str:
        """Return why the node is not there; empty if it is."""
        live = self._live
        if not self._is_in_graph:
            where = f"ROS domain {live.domain}"
            return f"{live.node} does not run in {where}; start it, or check ROS_DOMAIN_ID"
        if self._heard_s is None:
            return f"waiting for the first /diagnostics of {live.node}"
        limit_s = max(SILENT_S, SILENT_PERIODS * self._period_s)
        if time.monotonic() - self._heard_s > limit_s:
            silent = f"no /diagnostics of {live.node} for {limit_s:.0f} s"
            return f"{silent}: it hangs, was killed or cannot be reached"
        return ""

    def _show(self) -> None:
        if self._status is not None:
            self._live.show_status(self._status)
            self._is_shown = True

    def _on_diagnostics(self, message: bytes) -> None:
        if self._prefix.encode() not in message:
            return  # of another node; to make Python objects of it would cost most
        own = to_statuses(deserialize_message(message, DiagnosticArray), self._prefix)
        if not own:
            return
        now_s = time.monotonic()
        self._period_s = 0.0 if self._heard_s is None else now_s - self._heard_s
        self._status, self._heard_s = read_status(own), now_s
        if self._is_in_graph:
            self._show()

    def _on_message(self, watched: WatchedTopic, message: Message) -> None:
        handle = {
            LABELS: self._on_labels,
            RESULTS: self._on_result,
            PICTURES: self._on_picture,
        }[watched.output]
        if watched in self._topics:  # one that was on its way is late
            handle(watched.camera, message)

    def _on_labels(self, camera: str, message: Message) -> None:
        self._labels[camera] = {str(one.class_id): one.class_name for one in message.class_map}

    def _on_result(self, camera: str, message: Message) -> None:
        names = self._labels.get(camera, {})
        found = [(names.get(one.class_id, one.class_id), one.score) for one in message.results]
        self._live.show_result(camera, found)

    def _on_picture(self, camera: str, message: Message) -> None:
        frame = self._read_image(message)
        if frame.encoding == OVERLAY_ENCODING:
            self._live.show_picture(camera, frame.pixels)


def _check_name(node: str) -> None:
    try:
        validate_full_topic_name(node)  # the rules are the same
    except InvalidTopicNameException as error:
        problem = f"{quote(node)} is no node's name, such as /perception"
        raise ConfigError(f"{problem}: {' '.join(str(error).split())}") from error
