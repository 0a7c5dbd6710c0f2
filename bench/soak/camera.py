# SPDX-License-Identifier: Apache-2.0
"""The camera of a soak: it plays in real time, to the node and with everyone's clock."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from perception_node.bench.camera.camera_faults import FaultyCamera, play_out
from perception_node.bench.camera.fault_schedule import Fault
from perception_node.bench.camera.load import Load, make_messages
from perception_node.system.resources import SAMPLE_BAG, SAMPLE_TOPICS, find_resource
from perception_node.wire.bags import BagMessage, open_bag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perception_node.rehearsal.player import Player

PICTURES = 8
LATEST_NS = 50_000_000  # a camera that this process keeps from sending in time loses the frame


class Playback:
    """The camera, played on a thread of its own.

    Attributes:
        sent_ok: frames sent so far that nothing was wrong with.
        fault: what is wrong now.

    """

    def __init__(
        self,
        camera: FaultyCamera,
        pictures: Sequence[bytes],
        player: Player,
        topic: str,
        type_name: str,
    ) -> None:
        """Prepare; the camera's times are nanoseconds since the epoch."""
        self.sent_ok = 0
        self.fault = Fault.OK
        self.stop = threading.Event()
        self._topic, self._type = topic, type_name
        self._emissions = play_out(camera, pictures)
        self.thread = threading.Thread(
            target=player.play, args=(self._messages(), 1.0, self.stop), name="camera", daemon=True
        )

    def _messages(self) -> Iterator[BagMessage]:
        for emission in self._emissions:
            if time.time_ns() - emission.send_ns > LATEST_NS:
                continue
            self.fault = emission.fault
            self.sent_ok += emission.fault is Fault.OK
            yield BagMessage(self._topic, self._type, emission.send_ns, emission.message)


def read_camera(transport: str) -> list[bytes]:
    """Return serialized images that look different from one to the next."""
    if transport == "raw":
        return [bytes(message) for message in make_messages(Load())[:PICTURES]]
    with open_bag(find_resource(SAMPLE_BAG)) as bag:
        messages = [message.data for message in bag.messages([SAMPLE_TOPICS[transport]])]
    return messages[:: max(1, len(messages) // PICTURES)][:PICTURES]
