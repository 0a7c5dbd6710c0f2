# SPDX-License-Identifier: Apache-2.0
"""What the frame loop waits for and who it answers to, without a middleware."""

from __future__ import annotations

import threading
import time

from perception_node.flow.camera import Arrival, Camera
from perception_node.wire.images import ImageReader


class Images:
    """Keeps the newest image of each camera and numbers them, as the middleware does."""

    def __init__(self, steady=time.monotonic_ns):
        self._steady = steady
        self._lock = threading.Condition()
        self._newest, self._numbers = {}, {}
        self._is_woken = False

    def put(self, camera, message):
        with self._lock:
            number = self._numbers[camera] = self._numbers.get(camera, 0) + 1
            self._newest[camera] = Arrival(message, self._steady(), number)
            self._lock.notify()

    def wait(self):
        with self._lock:
            self._lock.wait_for(lambda: self._newest or self._is_woken)
            self._is_woken = False
            return sorted(self._newest)

    def take(self, camera):
        with self._lock:
            return self._newest.pop(camera, None)

    def wake(self):
        with self._lock:
            self._is_woken = True
            self._lock.notify()


class Handler:
    """Reads real images, and keeps what is made of them."""

    def __init__(self, transport):
        self.reader = ImageReader(transport, 1 << 20, 8)
        self.results, self.reported, self.threads = [], [], []

    def camera(self, counters, deadline):
        """Return the camera that the frame loop needs."""
        return Camera(
            self.reader.open, self.compose, self.send, self.reported.append, counters, deadline
        )

    def compose(self, prediction, _config):
        return prediction.hypotheses[0].label

    def send(self, result):
        self.threads.append(threading.current_thread())
        self.results.append(result)
