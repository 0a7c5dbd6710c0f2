# SPDX-License-Identifier: Apache-2.0
"""What is known of a watched node at this moment; filled by one thread, read by many."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perception_node.errors import ServerBusy
from perception_node.live.node_status import cut
from perception_node.live.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.live.node_status import CameraStatus, NodeStatus

MOST_RESULTS = 20  # of an image; a node may publish a thousand
DEAF_S = 5.0  # a watcher that does not look for so long hangs, and what it said may be old
DEAF = "the server does not hear ROS any more; restart it"


@dataclass(slots=True)
class _Shown:
    """What viewers see of a camera beside its numbers."""

    results: list[dict[str, Any]] = field(default_factory=list)
    received_ns: int | None = None
    picture: Picture | None = None


class LiveView:
    """The state of one node, and who looks at it.

    Attributes:
        node: full name of the node, such as ``/perception``.
        domain: its ROS domain.
        viewers: how many may look at a time.

    """

    def __init__(
        self,
        node: str,
        domain: int,
        viewers: int,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin with a node that was not seen yet."""
        self.node, self.domain, self.viewers = f"/{node.lstrip('/')}", domain, viewers
        self._steady_ns = steady_ns
        self._changed = threading.Condition()  # its lock guards all below
        self._closing = threading.Event()
        self._version = 0
        self._viewers_now = 0
        self._status: NodeStatus | None = None
        self._absence = f"looking for {self.node} in ROS domain {domain}"  # empty: it is there
        self._shown: dict[str, _Shown] = {}
        self._last_picture = 0
        self._looked_ns: int | None = None

    # For whoever watches the node

    def show_status(self, status: NodeStatus) -> None:
        """Take what the node says of itself; forget cameras that it has no more."""
        topics = {camera.topic for camera in status.cameras}
        with self._change():
            self._status, self._absence = status, ""
            self._shown = {t: shown for t, shown in self._shown.items() if t in topics}

    def show_absence(self, why: str) -> None:
        """Say in one line that the node is not there; its numbers stay, its results do not."""
        with self._changed:
            is_news = why != self._absence
        if is_news:
            with self._change():
                self._absence, self._shown = why, {}

    def show_result(self, topic: str, results: Sequence[tuple[str, float]]) -> None:
        """Take the labels and scores of an image of camera ``topic``, best first.

        At most 20 are kept, and none whose score is not finite.
        """
        best = [(name, score) for name, score in results if math.isfinite(score)][:MOST_RESULTS]
        known = [{"label": cut(name), "score": score} for name, score in best]
        with self._change():
            shown = self._shown.setdefault(topic, _Shown())
            shown.results, shown.received_ns = known, self._steady_ns()

    def show_picture(self, topic: str, pixels: NDArray[np.uint8]) -> None:
        """Take an overlay of camera ``topic``: uint8 BGR (height, width, 3), not to be changed."""
        with self._change():
            self._last_picture += 1
            picture = Picture(self._last_picture, pixels)
            self._shown.setdefault(topic, _Shown()).picture = picture

    def forget_results(self) -> None:
        """Forget results and pictures: nobody looks, and soon they would be old."""
        with self._change():
            self._shown = {}

    def note_look(self) -> None:
        """Say that the watcher is well; 5 s without it, the node is shown as absent."""
        with self._changed:
            was_deaf, self._looked_ns = self._is_deaf(), self._steady_ns()
            if was_deaf:
                self._note_change()

    # For viewers

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    @property
    def viewers_now(self) -> int:
        """How many look."""
        return self._viewers_now

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing.is_set()

    @contextmanager
    def viewing(self) -> Iterator[None]:
        """Take a viewer's place meanwhile.

        Raises:
            ServerBusy: all places are taken, or the view is closed.

        """
        with self._changed:
            if self._viewers_now >= self.viewers or self.is_closed:
                msg = f"{self.viewers} pages watch the node already; close one, or try again later"
                raise ServerBusy(msg, retry_after_s=5)
            self._viewers_now += 1
        try:
            yield
        finally:
            with self._changed:
                self._viewers_now -= 1

    def wait(self, version: int, timeout_s: float) -> int:
        """Wait until ``version`` is not the newest, the view is closed, or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version or self.is_closed, timeout_s)
            return self._version

    def pause(self, time_s: float) -> None:
        """Wait; not any longer once the view is closed."""
        self._closing.wait(time_s)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, ready for JSON."""
        with self._changed:
            status = self._status
            absence = DEAF if self._is_deaf() else self._absence
            cameras = status.cameras if status else ()
            state = "active" if status and status.is_active else "inactive"
            return {
                "node": self.node,
                "domain": self.domain,
                "state": "absent" if absence else state,
                "level": "error" if absence or not status else status.level,
                "summary": absence or (status.summary if status else ""),
                "degraded": not absence and bool(status and status.is_degraded),
                "alarms": status.alarms if status and not absence else [],
                "engine": status.engine if status else None,
                "cameras": [self._describe(one, is_absent=bool(absence)) for one in cameras],
            }

    def picture(self, camera: int) -> bytes | None:
        """Return the newest picture of a camera as JPEG; None if there is none."""
        with self._changed:
            cameras = self._status.cameras if self._status else ()
            shown = self._shown.get(cameras[camera].topic) if camera < len(cameras) else None
            picture = shown.picture if shown else None
        return picture.to_jpeg() if picture else None  # not under the lock: it takes milliseconds

    def close(self) -> None:
        """End all waits; streams end with them."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._note_change()

    def _note_change(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _is_deaf(self) -> bool:
        return self._looked_ns is not None and self._steady_ns() - self._looked_ns > DEAF_S * 1e9

    def _describe(self, camera: CameraStatus, *, is_absent: bool) -> dict[str, Any]:
        shown = _Shown() if is_absent else self._shown.get(camera.topic, _Shown())
        best = shown.results[0] if shown.results else {"label": None, "score": None}
        age_s = None
        if shown.received_ns is not None:
            age_s = round((self._steady_ns() - shown.received_ns) / 1e9, 3)
        return {
            "topic": camera.topic,
            **best,
            "results": shown.results,
            "result_age_s": age_s,
            **camera.facts,
            **({"rate_hz": None} if is_absent else {}),
            "picture": shown.picture.number if shown.picture else 0,
        }
