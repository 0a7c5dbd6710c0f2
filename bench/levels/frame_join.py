# SPDX-License-Identifier: Apache-2.0
"""Joins what camera and subscriber say of the same frame, by the image's stamp."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.levels.frame_records import LATENCY, Heard, SentRecord
from perception_node.bench.levels.frames import PlayedFrame
from perception_node.bench.reporting.live_table import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.bench.camera.load import Load

LATELY_NS = 10_000_000_000


class FrameJoin:
    """All frames of a run.

    Attributes:
        frames: by camera and stamp, in the order in which they were sent.
        results: results so far, also of the warm-up.
        traces: messages of ~/latency so far.
        without_result: results that hold no hypothesis.
        oldest_ns: the highest age of a result so far.

    """

    def __init__(self, load: Load, deadline_ns: int) -> None:
        """Prepare for a run with ``load``."""
        self.frames: dict[tuple[int, int], PlayedFrame] = {}
        self.results = self.traces = self.without_result = self.oldest_ns = 0
        self._load, self._deadline_ns = load, deadline_ns
        self._waiting: list[Heard] = []  # for what the camera says of their frames
        self._undecided: deque[PlayedFrame] = deque()
        self._sent = self._answered = self._missed = 0
        self._lately: deque[tuple[int, int]] = deque()

    def add_sent(self, sent: SentRecord) -> None:
        """Note a frame that was sent."""
        frame = self.frames[sent.camera, sent.stamp_ns] = PlayedFrame(sent)
        if self.is_measured(frame):
            self._sent += 1
            self._undecided.append(frame)

    def add_heard(self, heard: Iterable[Heard]) -> None:
        """Note results and messages of ~/latency, which may come before their frame does."""
        waiting, self._waiting = [*self._waiting, *heard], []
        for one in waiting:
            frame = self.frames.get((one.camera, one.stamp_ns))
            if frame is None:
                self._waiting.append(one)
            elif one.kind == LATENCY:
                self.traces += 1
                frame.latency = one.payload
            elif not frame.received_ns:
                frame.received_ns = one.received_ns
                self._note(frame, one)

    def is_measured(self, frame: PlayedFrame) -> bool:
        """Return whether it came after the warm-up."""
        return frame.sent.number >= self._load.warm_up_frames

    def measured(self) -> list[PlayedFrame]:
        """Return the frames after the warm-up, in the order in which they were due."""
        frames = filter(self.is_measured, self.frames.values())
        return sorted(frames, key=lambda frame: (frame.sent.due_ns, frame.sent.camera))

    def progress(self, now_ns: int) -> Progress:
        """Say how far the run is."""
        self._decide(now_ns)
        while self._lately and self._lately[0][0] < now_ns - LATELY_NS:
            self._lately.popleft()
        rate_hz = p99_ms = math.nan
        if self._lately:
            span_ns = max(now_ns - self._lately[0][0], self._load.period_ns)
            rate_hz = len(self._lately) * 1e9 / span_ns
            p99_ms = float(np.percentile([age_ns for _, age_ns in self._lately], 99)) / 1e6
        total = self._load.total
        warm_up = self._load.warm_up_frames * self._load.cameras
        left = total + warm_up - len(self.frames)
        seconds_left = left / self._load.cameras / self._load.rate_hz
        return Progress(
            self._sent, self._answered, self._missed, rate_hz, p99_ms, seconds_left, total
        )

    def _note(self, frame: PlayedFrame, heard: Heard) -> None:
        self.results += 1
        self.without_result += not heard.has_result
        self.oldest_ns = max(self.oldest_ns, frame.age_ns)
        if self.is_measured(frame):
            self._answered += 1
            self._lately.append((frame.received_ns, frame.age_ns))

    def _decide(self, now_ns: int) -> None:
        """Count the frames of which it is certain by now."""
        while self._undecided:
            frame = self._undecided[0]
            if not frame.received_ns and now_ns <= frame.sent.call_ns + self._deadline_ns:
                return
            self._missed += frame.is_missed(self._deadline_ns)
            self._undecided.popleft()
