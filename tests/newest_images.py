# SPDX-License-Identifier: Apache-2.0
"""What the frame loop waits for, without a middleware."""

from __future__ import annotations

import threading
import time

from perception_node.camera import Arrival


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
