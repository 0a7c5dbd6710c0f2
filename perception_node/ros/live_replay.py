# SPDX-License-Identifier: Apache-2.0
"""A bag through DDS into real nodes, one image after the other, with the bag's time on /clock.

An image is sent when the node has answered the one before, so nothing is superseded and the same
bag gives the same records every time, however slow the machine is.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING

import cv2
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import MAX_DEADLINE_MS
from perception_node.errors import EnvironmentLacks, MalformedMessage
from perception_node.ros.compat import RCLError
from perception_node.ros.delivery import BYTES, find_delivery
from perception_node.ros.live_answers import LiveAnswers
from perception_node.ros.live_cameras import plan_nodes
from perception_node.ros.messages import to_header, to_image, to_nanoseconds
from perception_node.ros.node_process import NodeProcess
from perception_node.ros.player import Player, Timeline, import_type
from perception_node.ros.session import open_session
from perception_node.wire.bags import BagMessage
from perception_node.wire.images import RAW_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perception_node.config.parameter import Value
    from perception_node.replay.golden import Record
    from perception_node.ros.live_answers import Answer
    from perception_node.ros.live_cameras import LiveCamera, LiveNode

# Nothing may be dropped because this machine is slow or because of the stamps in the bag: what is
# asked is what the node says of each image.
PARAMETERS: dict[str, Value] = {
    "autostart": True,
    "use_sim_time": True,
    "age_reference": "arrival",
    "deadline_ms": MAX_DEADLINE_MS,
    "image_qos": "default",  # reliable
}
START_TIMEOUT_S, PROBE_TIMEOUT_S, MARGIN_S = 60.0, 1.0, 10.0
POLL_S, LONGEST_SLEEP_S = 0.02, 0.2
PROBE = "perception replay: is somebody there?"  # frame_id of images that are not the bag's
PROBE_SIDE = 64  # pixels
SCORE_DIGITS = 6  # as without DDS


class LiveReplay:
    """Nodes that wait for the images of a bag."""

    def __init__(self, topics: dict[str, str], config: NodeConfig) -> None:
        """Prepare.

        Args:
            topics: image topics of the bag and their message types.
            config: parameters of the nodes.

        """
        self._nodes = plan_nodes(topics)
        self._cameras = {c.topic: c for node in self._nodes for c in node.cameras}
        self._config = config
        self._processes: list[NodeProcess] = []
        self._deliveries: dict[str, str] = {}

    def run(self, messages: Iterable[BagMessage], rate: float) -> Iterator[Record]:
        """Start the nodes, play, yield a record per image as ``perception replay`` has them.

        Args:
            messages: serialized images of the topics.
            rate: at most so many times the recorded speed; infinity plays as fast as it goes.

        Raises:
            EnvironmentLacks: a node does not start, ends, or does not answer.

        """
        published = {camera.published: camera.type_name for camera in self._cameras.values()}
        prefixes = [camera.prefix for camera in self._cameras.values()]
        with ExitStack() as stack:
            node = stack.enter_context(open_session("perception_replay"))
            self._deliveries = {
                topic: find_delivery(node, import_type(camera.type_name))
                for topic, camera in self._cameras.items()
            }
            answers = stack.enter_context(LiveAnswers(node, prefixes))
            self._processes = [
                stack.enter_context(self._describe_process(planned)) for planned in self._nodes
            ]
            player = Player(node, published, with_clock=True)
            self._wait_until_active(answers, player)
            for camera in self._cameras.values():
                self._probe(camera, answers, player)
            yield from self._replay(messages, rate, answers, player)

    def _describe_process(self, node: LiveNode) -> NodeProcess:
        defaults = NodeConfig().values()
        changed = {
            name: value for name, value in self._config.values().items() if value != defaults[name]
        }
        parameters = {
            **PARAMETERS,
            **changed,
            "image_transport": node.transport,
            "image_topics": tuple(camera.image for camera in node.cameras),
        }
        return NodeProcess(parameters, {"__ns": node.namespace})

    def _wait_until_active(self, answers: LiveAnswers, player: Player) -> None:
        end_s = time.monotonic() + START_TIMEOUT_S
        while len(answers.labels) < len(self._cameras) or not player.has_subscribers:
            self._require_alive()
            if time.monotonic() > end_s:
                raise self._lack(f"the node did not become active in {START_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def _probe(self, camera: LiveCamera, answers: LiveAnswers, player: Player) -> None:
        """Send black images until one is answered: then all ways are open in both directions."""
        message = _make_probe(camera.type_name)
        end_s = time.monotonic() + START_TIMEOUT_S
        answer = None
        while answer is None and time.monotonic() < end_s:
            _play(player, camera, message, 0)
            answer = answers.wait(
                camera.prefix, lambda name: name == PROBE, PROBE_TIMEOUT_S, self._require_alive
            )
        if answer is None or answer.result is None:
            outcome = "is not answered" if answer is None else f"is dropped ({answer.outcome})"
            raise self._lack(f"a black image on {camera.published} {outcome}")

    def _replay(
        self,
        messages: Iterable[BagMessage],
        rate: float,
        answers: LiveAnswers,
        player: Player,
    ) -> Iterator[Record]:
        timeline = Timeline(rate)
        timeout_s = self._config.model.engine_timeout_ms / 1000 + MARGIN_S
        for message in messages:
            camera = self._cameras[message.topic]
            while (left_s := timeline.seconds_until(message.time_ns)) > 0.0:
                self._require_alive()
                time.sleep(min(left_s, LONGEST_SLEEP_S))
            _play(player, camera, message.data, message.time_ns)
            if self._never_reaches_node(message):
                record: Record = {"topic": message.topic, "time_ns": message.time_ns}
                yield {**record, "dropped": MalformedMessage.kind, "why": "ROS cannot read it"}
                continue
            answer = answers.wait(
                camera.prefix, lambda name: name != PROBE, timeout_s, self._require_alive
            )
            if answer is None:
                what = f"the image of {message.topic} at {message.time_ns}"
                raise self._lack(f"no answer to {what} in {timeout_s:.0f} s")
            yield _to_record(message, answer, answers.labels[camera.prefix])

    def _never_reaches_node(self, message: BagMessage) -> bool:
        """Tell whether the middleware drops a message, as rclpy can make nothing of it."""
        if self._deliveries[message.topic] == BYTES:
            return False
        try:
            deserialize_message(message.data, import_type(message.type_name))
        except (RuntimeError, RCLError):
            return True
        return False

    def _require_alive(self) -> None:
        for process in self._processes:
            process.require_alive()

    def _lack(self, problem: str) -> EnvironmentLacks:
        last = [(process.log() or ["it logged nothing"])[-1] for process in self._processes]
        return EnvironmentLacks(f"{problem}: {'; '.join(last)}")


def _play(player: Player, camera: LiveCamera, data: bytes, time_ns: int) -> None:
    message = BagMessage(camera.published, camera.type_name, time_ns, data)
    player.play([message], math.inf, threading.Event())


def _make_probe(type_name: str) -> bytes:
    """Return a serialized black image, which its frame_id tells from those of the bag."""
    header = to_header(0, PROBE)
    picture = np.zeros((PROBE_SIDE, PROBE_SIDE, 3), np.uint8)
    if type_name == RAW_TYPE:
        return bytes(serialize_message(to_image(header, picture)))
    data = array("B", cv2.imencode(".jpg", picture)[1].tobytes())
    return bytes(serialize_message(CompressedImage(header=header, format="jpeg", data=data)))


def _to_record(message: BagMessage, answer: Answer, labels: dict[str, str]) -> Record:
    record: Record = {"topic": message.topic, "time_ns": message.time_ns}
    if answer.result is None:
        return {**record, "dropped": answer.outcome, "why": "the node dropped it"}
    header = answer.result.header
    results = [
        {
            "class_id": result.class_id,
            "label": labels.get(result.class_id, result.class_id),
            "score": round(result.score, SCORE_DIGITS),
        }
        for result in answer.result.results
    ]
    record.update(stamp_ns=to_nanoseconds(header.stamp), frame_id=header.frame_id)
    return {**record, "results": results}
