# SPDX-License-Identifier: Apache-2.0
"""Who asks all the time for what is right: a camera to each node, a client to the server."""

from __future__ import annotations

import http.client
import json
import threading
import time
from array import array
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING

from perception_node.bench.camera.camera_messages import write_stamp
from perception_node.bench.siege.record import SECOND_NS
from perception_node.rehearsal.listener import LATENCY, RESULTS, Listener, read_age_ms
from perception_node.ros.messages import to_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node
    from typing_extensions import Self
    from vision_msgs.msg import Classification

    from perception_node.bench.siege.pictures import Picture
    from perception_node.untyped import RosObject


RATE_HZ, REQUESTS_HZ = 10.0, 4.0
HELD_UP_NS = SECOND_NS // 4  # who wakes up so late was kept from its work
ANSWER_TIMEOUT_S = 1.0  # then it asks again: TCP itself would wait longer after a flood


class Repeating:
    """Does something at a fixed rate on a thread of its own, from entering to leaving.

    Attributes:
        held_up: from when to when the thread could not begin, nanoseconds since the epoch.

    """

    def __init__(self, name: str, rate_hz: float) -> None:
        """Prepare a thread of this name."""
        self.held_up: list[tuple[int, int]] = []
        self._period_ns = int(SECOND_NS / rate_hz)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop; also a second time."""
        self._stop.set()
        self._thread.join()

    def do(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def _run(self) -> None:
        due_ns = time.time_ns()
        while not self._stop.wait(max(0.0, (due_ns - time.time_ns()) / SECOND_NS)):
            now_ns = time.time_ns()
            if now_ns - due_ns > HELD_UP_NS:
                self.held_up.append((due_ns, now_ns))
            self.do()
            # A slow answer is the other side's, not ours: count from its end.
            due_ns = max(now_ns + self._period_ns, time.time_ns())


class SiegeCamera(Repeating):
    """Sends good pictures to a node, with the stamps of now, and whatever attacks send besides.

    Attributes:
        sent: the number of the picture, by the stamp of each good one.
        spoilt: by the stamp of each damaged one, what is wrong with it.

    """

    def __init__(self, publisher: RosObject, pictures: Sequence[Picture], transport: str) -> None:
        """Prepare to publish the pictures in turn."""
        super().__init__(f"camera-{transport}", RATE_HZ)
        self.sent: dict[int, int] = {}
        self.spoilt: dict[int, str] = {}
        self.pictures = pictures
        self.transport = transport
        self._publisher = publisher
        self._numbers: Iterator[int] = cycle(range(len(pictures)))
        self._lock = threading.Lock()
        self._last_ns = 0

    def do(self) -> None:
        """Send the next good picture."""
        self.send_good(next(self._numbers))

    def send_good(
        self, number: int, stamp_ns: int | None = None, publisher: RosObject = None
    ) -> None:
        """Send a good picture; a stamp that is given must be one of its own."""
        stamp_ns = self.take_stamp() if stamp_ns is None else stamp_ns
        self.sent[stamp_ns] = number
        self._publish(
            bytearray(self.pictures[number].messages[self.transport]), stamp_ns, publisher
        )

    def send_spoilt(self, message: bytearray, what: str) -> None:
        """Send a serialized message to which no answer may come; its stamp is replaced."""
        stamp_ns = self.take_stamp()
        self.spoilt[stamp_ns] = what
        self._publish(message, stamp_ns, None)

    def send_other(self, message: bytearray) -> None:
        """Send a message that may be answered or not; its stamp is replaced."""
        self._publish(message, self.take_stamp(), None)

    def take_stamp(self) -> int:
        """Return the time, which no other message has as its stamp."""
        with self._lock:
            self._last_ns = max(self._last_ns + 1, time.time_ns())
            return self._last_ns

    def _publish(self, message: bytearray, stamp_ns: int, publisher: RosObject) -> None:
        write_stamp(message, stamp_ns)
        (publisher or self._publisher).publish(bytes(message))


class Client(Repeating):
    """Posts good pictures to the server, one after the other.

    Attributes:
        answers_ns: when right answers came.
        wrong: answers with another label, in words.

    """

    def __init__(self, host: str, port: int, pictures: Sequence[Picture]) -> None:
        """Prepare to post to ``host``."""
        super().__init__("client", REQUESTS_HZ)
        self.answers_ns = array("q")
        self.wrong: Counter[str] = Counter()
        self._address = host, port
        self._pictures = cycle(pictures)

    def do(self) -> None:
        """Post the next picture; a refusal is no answer."""
        picture = next(self._pictures)
        connection = http.client.HTTPConnection(*self._address, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", "/predict", picture.jpeg, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            return
        if json.loads(body)["label"] == picture.label:
            self.answers_ns.append(time.time_ns())
        else:
            self.wrong["with another label"] += 1


class Hearing(Listener):
    """Hears results and ages of one node.

    Attributes:
        stamps_ns: of the results, in the order of arrival.
        arrivals_ns: when they arrived.
        classes: their best classes; -1 for none.
        aged_stamps_ns: stamps of the images that ~/latency calls published.
        ages_ms: their ages, as ~/latency states them.

    """

    def __init__(self, node: Node, target: str) -> None:
        """Subscribe with ``node`` to what the node named ``target`` says."""
        super().__init__(node)
        self.stamps_ns, self.arrivals_ns, self.classes = array("q"), array("q"), array("q")
        self.aged_stamps_ns, self.ages_ms = array("q"), array("d")
        self.subscribe(target, {RESULTS: self._on_result, LATENCY: self._on_latency})

    def _on_result(self, message: Classification, _received_ns: int) -> None:
        self.arrivals_ns.append(time.time_ns())
        self.stamps_ns.append(to_nanoseconds(message.header.stamp))
        best = message.results[0].class_id if message.results else ""
        self.classes.append(int(best) if best.isdecimal() else -1)

    def _on_latency(self, message: DiagnosticArray, _received_ns: int) -> None:
        age_ms = read_age_ms(message)
        if age_ms is not None:
            self.aged_stamps_ns.append(to_nanoseconds(message.header.stamp))
            self.ages_ms.append(age_ms)
