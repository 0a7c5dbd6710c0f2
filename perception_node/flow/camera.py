# SPDX-License-Identifier: Apache-2.0
"""One camera as the frame loop sees it: where its images come from, what is done with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from perception_node.flow.latency import AgeWindow, FrameTrace
from perception_node.flow.rate import RateLimit
from perception_node.flow.stream import StreamMonitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.pipeline import Prediction
    from perception_node.flow.counters import FrameCounters
    from perception_node.flow.deadline import Deadline
    from perception_node.vision.frame import Frame


class Arrival(NamedTuple):
    """An image that was taken from the middleware.

    Attributes:
        message: its bytes, or an image message.
        arrived_ns: when it reached the middleware of this process, on the steady clock.
        number: the publisher's; None where images are not numbered.

    """

    message: Any
    arrived_ns: int
    number: int | None = None


class ImageSource(Protocol):
    """The newest image of each camera, by the cameras' indices."""

    def wait(self) -> Sequence[int]:
        """Wait until cameras have images, and return which; none after ``wake``."""

    def take(self, camera: int) -> Arrival | None:
        """Take a camera's newest image; None if there is none any more."""

    def wake(self) -> None:
        """Let ``wait`` return; called by any thread."""


class OpenImage(Protocol):
    """An image of which only the header was read."""

    @property
    def stamp_ns(self) -> int:
        """Return the acquisition time, nanoseconds since the epoch."""

    @property
    def frame_id(self) -> str:
        """Return the coordinate frame."""

    def read(self) -> Frame:
        """Read the rest."""


class FrameHandler(Protocol):
    """What is done with a camera's images beside classifying them, all by the frame loop."""

    def open(self, message: Any) -> OpenImage:  # noqa: ANN401 - bytes, or an image message
        """Read the beginning of an image."""

    def compose(self, prediction: Prediction, config: NodeConfig) -> Any:  # noqa: ANN401 - a message
        """Make the message."""

    def send(self, result: Any) -> None:  # noqa: ANN401 - what compose() made
        """Send the message to those who wait for it."""

    def after_publish(self, frame: Frame, prediction: Prediction) -> None:
        """Do what may take time, for no result waits for it."""

    def record(self, trace: FrameTrace) -> None:
        """Take note of where a frame's time went."""

    def report(self, error: Exception) -> None:
        """Log why a frame was lost."""


@dataclass(frozen=True)
class Camera:
    """One camera as the frame loop sees it."""

    handler: FrameHandler
    counters: FrameCounters
    deadline: Deadline
    stream: StreamMonitor = field(default_factory=StreamMonitor)
    limit: RateLimit = field(default_factory=RateLimit)
    ages: AgeWindow = field(default_factory=AgeWindow)
