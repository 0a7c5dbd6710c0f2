# SPDX-License-Identifier: Apache-2.0
"""One camera as the frame loop sees it: its images, what reads and what publishes, its account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from perception_node.flow.accounts import StreamMonitor
from perception_node.flow.deadline import AgeWindow, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perception_node.config.sections import OutputConfig
    from perception_node.engines.pipeline import Prediction
    from perception_node.flow.accounts import FrameCounters
    from perception_node.flow.deadline import Deadline
    from perception_node.untyped import Message
    from perception_node.vision.frame import Frame


class Arrival(NamedTuple):
    """An image that was taken from the middleware.

    Attributes:
        message: its bytes, or an image message.
        arrived_ns: when it reached the middleware of this process, on the steady clock.
        number: the publisher's; None where images are not numbered.

    """

    message: Message
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


@dataclass(slots=True)
class FrameTrace:
    """One frame's way through the node; durations in nanoseconds, 0 for stages not reached.

    Attributes:
        stamp_ns: the image's stamp.
        frame_id: the image's coordinate frame.
        outcome: published, stale, late, the kind of a frame error, or failed.
        wait_ns: from its arrival in the middleware until it was taken.
        read_ns: reading the message, decoding a compressed image.
        preprocess_ns: pixels to the model's input.
        infer_ns: the engine.
        postprocess_ns: the model's output to hypotheses.
        publish_ns: making and sending the message.
        age_ns: age of the image when its outcome was decided; None if unknown.

    """

    stamp_ns: int = 0
    frame_id: str = ""
    outcome: str = ""
    wait_ns: int = 0
    read_ns: int = 0
    preprocess_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0
    publish_ns: int = 0
    age_ns: int | None = None


def _note_nothing(*_: object) -> None:
    """Stand in for what is not wanted."""


@dataclass(frozen=True)
class Camera:
    """One camera. The frame loop calls the functions; nothing stands between it and them.

    Attributes:
        open: reads the beginning of an image, which is bytes or an image message.
        compose: makes the message of a prediction, as the configuration of its frame says.
        send: publishes that message.
        report: takes note of why a frame was lost.
        counters: the account of its frames.
        deadline: decides which are in time.
        show: may draw a frame whose result is out; no other result waits for it.
        record: takes note of where a frame's time went.

    """

    open: Callable[[Message], OpenImage]
    compose: Callable[[Prediction, OutputConfig], Message]
    send: Callable[[Message], None]
    report: Callable[[Exception], None]
    counters: FrameCounters
    deadline: Deadline
    show: Callable[[Frame, Prediction], None] = _note_nothing
    record: Callable[[FrameTrace], None] = _note_nothing
    stream: StreamMonitor = field(default_factory=StreamMonitor)
    limit: RateLimit = field(default_factory=RateLimit)
    ages: AgeWindow = field(default_factory=AgeWindow)
