# SPDX-License-Identifier: Apache-2.0
"""Keeps the frame loop on an engine that answers.

The loop runs on the thread of its engine. A thread of its own looks at it a few times per timeout:
if a frame has been with the engine for too long, it is taken away, and the loop goes on with it on
the thread of the engine that stands by. No frame is handed from thread to thread before that.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from perception_node.errors import EngineLost
from perception_node.realtime import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.fallback import FallbackPipeline
    from perception_node.frame_loop import FrameAtHand, FrameLoop
    from perception_node.pipeline import FrameClassifier

THREAD_NAME = "perception-supervisor"
START_TIMEOUT_S = 10.0  # to make an engine that takes over
LOOKS = 10  # per timeout
SHORTEST_PAUSE_S = 0.002
JOIN_TIMEOUT_S = 1.0


class Supervisor:
    """Runs one frame loop, on one engine of a pipeline after the other."""

    def __init__(
        self, pipeline: FallbackPipeline, loop: FrameLoop, on_loss: Callable[[], None]
    ) -> None:
        """Prepare.

        Args:
            pipeline: has the engines; the loop is their only user from ``start`` to ``stop``.
            loop: what runs.
            on_loss: called from the supervisor's thread once another engine has taken over, or
                once none is left.

        """
        self._pipeline = pipeline
        self._loop = loop
        self._on_loss = on_loss
        self._is_loss_told = True
        self._has_ended = threading.Event()  # the loop
        self._has_ended.set()
        self._is_over = False
        self._alarm = threading.Event()  # lets the thread look at once
        self._thread = threading.Thread(target=self._watch, name=THREAD_NAME, daemon=True)

    @property
    def native_ids(self) -> tuple[int, ...]:
        """The operating system's number of the supervisor's thread; empty before ``start``."""
        return () if self._thread.native_id is None else (self._thread.native_id,)

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()
        self._loop.begin()
        self._has_ended.clear()
        try:
            self._begin(None)
        except BaseException:
            self._has_ended.set()
            raise

    def stop(self, timeout_s: float) -> bool:
        """Finish the frame at hand; return False if that took too long."""
        self._loop.stop()
        has_ended = self._has_ended.wait(timeout_s)
        if has_ended and self._thread.is_alive():
            self._is_over = True
            self._alarm.set()
            self._thread.join(JOIN_TIMEOUT_S)
        return has_ended

    def abandon(self) -> None:
        """Give up all engines with the frame at hand, so that ``stop`` returns."""
        self._pipeline.interrupt()
        self._loop.stop()
        frame = self._loop.at_hand
        if frame is not None and frame.claim():
            self._loop.lose(frame, self._pipeline.exhaustion())
            self._has_ended.set()

    def _begin(self, frame: FrameAtHand | None) -> None:
        """Let the loop run on the engine in use, or without one where none is left."""
        self._loop.at_hand = frame
        start, engine = _Start(self, frame), self._pipeline.engine
        try:
            if engine is not None:
                engine.begin(start.run, start.fail)
                return
            # Images still come, and each of them fails with the reason.
            name, pipeline = "perception-no-engine", (self._pipeline,)
            threading.Thread(target=start.run, args=pipeline, name=name, daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            if engine is None:
                start.run(self._pipeline)  # on this one: nothing is left to be watched
                return
            self._pipeline.drop_engine(error)
            self._begin(frame)

    def run(self, classifier: FrameClassifier, frame: FrameAtHand | None) -> None:
        """Run the loop; called by the thread of an engine."""
        if self._loop.run(classifier, self._pass_on, frame):
            self._has_ended.set()

    def _pass_on(self, frame: FrameAtHand, error: Exception) -> bool:
        """Go on with the next engine if this error costs the present one; see the loop's run."""
        engine = self._pipeline.engine
        if engine is None or not engine.is_lost_by(error):
            return False
        self._pipeline.drop_engine(error)
        self._is_loss_told = False
        self._alarm.set()
        self._begin(frame.with_new_claim())
        return True

    def fail(self, frame: FrameAtHand | None, error: Exception) -> None:
        """Go on after an engine could not be made for a frame, or after a bug in the loop."""
        engine = self._pipeline.engine
        has_bug = frame is None
        if has_bug:
            self._loop.report(error)
            frame = self._loop.at_hand
        if frame is not None and frame.claim() and not self._pass_on(frame, error):
            self._loop.lose(frame, error)
        if has_bug and engine is not None and engine is self._pipeline.engine:
            self._begin(None)

    def _watch(self) -> None:
        """Look at the loop in slices.

        A process that is stopped (SIGSTOP, a debugger, a frozen container) has slept through one
        slice when it goes on, not through the whole timeout: the engine had no time either.
        """
        name_thread("perc-supervisor")
        seen: tuple[int, bool] | None = None
        looks = 0
        while not self._is_over:
            is_alarm = self._alarm.wait(self._pause_s())
            self._alarm.clear()
            self._tell_loss()
            if is_alarm:
                continue
            frame, engine = self._loop.at_hand, self._pipeline.engine
            if frame is None or engine is None:
                seen = None
                continue
            state = (self._loop.turns, engine.is_made)
            looks = looks + 1 if state == seen else 0
            seen = state
            timeout_s = engine.timeout_s if engine.is_made else START_TIMEOUT_S
            if looks * self._pause_s() >= timeout_s and frame.claim():
                lost = EngineLost(f"the engine did not answer within {timeout_s:g} s")
                self._pass_on(frame, lost)
                seen = None

    def _pause_s(self) -> float:
        engine = self._pipeline.engine
        timeout_s = 1.0 if engine is None else engine.timeout_s
        return max(SHORTEST_PAUSE_S, timeout_s / LOOKS)

    def _tell_loss(self) -> None:
        """Tell, once, that an engine was lost, as soon as it is known what runs instead."""
        engine = self._pipeline.engine
        if not self._is_loss_told and (engine is None or engine.is_made):
            self._is_loss_told = True
            try:
                self._on_loss()
            except Exception as error:  # noqa: BLE001 - whoever watches must not end
                self._loop.report(error)


class _Start:
    """A start of the loop on one engine, which may come too late; keeps no frame once it began."""

    def __init__(self, supervisor: Supervisor, frame: FrameAtHand | None) -> None:
        self._supervisor, self._frame = supervisor, frame

    def run(self, classifier: FrameClassifier) -> None:
        self._supervisor.run(classifier, self._take_frame())

    def fail(self, error: Exception) -> None:
        self._supervisor.fail(self._take_frame(), error)

    def _take_frame(self) -> FrameAtHand | None:
        frame, self._frame = self._frame, None
        return frame
