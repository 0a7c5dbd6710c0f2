# SPDX-License-Identifier: Apache-2.0
"""One camera's way through the core: what is done with its frames, and what is noted of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from perception_node.latency import AgeWindow, FrameTrace
from perception_node.rate import RateLimit
from perception_node.stream import StreamMonitor

if TYPE_CHECKING:
    from perception_node.config import NodeConfig
    from perception_node.counters import FrameCounters
    from perception_node.deadline import Deadline
    from perception_node.frame import Frame
    from perception_node.pipeline import Prediction


class Header(Protocol):
    """What is known of an image before it is read."""

    @property
    def stamp_ns(self) -> int:
        """Return the acquisition time, nanoseconds since the epoch."""

    @property
    def frame_id(self) -> str:
        """Return the coordinate frame."""


class FrameHandler(Protocol):
    """What the worker does with a frame; every call comes from the worker's thread."""

    def read_header(self, message: Any) -> Header:  # noqa: ANN401 - bytes, or an image message
        """Read the beginning of an image."""

    def read(self, message: Any) -> Frame:  # noqa: ANN401
        """Read all of it."""

    def classify(self, frame: Frame, config: NodeConfig) -> Prediction:
        """Run the pipeline."""

    def compose(self, prediction: Prediction, config: NodeConfig) -> Any:  # noqa: ANN401 - a message
        """Make the message."""

    def send(self, result: Any) -> None:  # noqa: ANN401 - what compose() made
        """Send the message to those who wait for it."""

    def after_publish(self, frame: Frame, prediction: Prediction) -> None:
        """Do what may take time: nobody waits for it."""

    def record(self, trace: FrameTrace) -> None:
        """Take note of where a frame's time went."""

    def report(self, error: Exception) -> None:
        """Log why a frame was lost."""


@dataclass(frozen=True)
class Camera:
    """One camera as the worker sees it."""

    handler: FrameHandler
    counters: FrameCounters
    deadline: Deadline
    stream: StreamMonitor = field(default_factory=StreamMonitor)
    limit: RateLimit = field(default_factory=RateLimit)
    ages: AgeWindow = field(default_factory=AgeWindow)
