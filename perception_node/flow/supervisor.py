# SPDX-License-Identifier: Apache-2.0
"""Keeps the frame loop on an engine that answers.

The loop runs on the thread of its engine. A thread of its own looks at it a few times per timeout:
if the engine hangs, its frame is taken away, and the loop goes on with it on the thread of the
engine that stands by. No frame is handed from thread to thread before that.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from perception_node.engines.engine_thread import INTERRUPTED
from perception_node.engines.standstill import LOOKS, Standstill
from perception_node.errors import EngineLost
from perception_node.system.realtime import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.engines.engine_thread import EngineThread
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.engines.pipeline import FrameClassifier, Prediction
    from perception_node.flow.frame_loop import FrameAtHand, FrameLoop
    from perception_node.vision.frame import Frame

THREAD_NAME = "perception-supervisor"
SHORTEST_PAUSE_S = 0.002
JOIN_TIMEOUT_S = 1.0


class Supervisor:
    """Runs one frame loop, on one engine of a pipeline after the other."""

    def __init__(
        self, pipeline: FallbackPipeline, loop: FrameLoop, on_change: Callable[[], None]
    ) -> None:
        """Prepare.

        Args:
            pipeline: has the engines; the loop is their only user from ``start`` to ``stop``.
            loop: what runs.
            on_change: called from the supervisor's thread once another engine has taken over, or
                once none is left.

        """
        self._pipeline = pipeline
        self._loop = loop
        self._engine: EngineThread | None = None  # on which the loop runs
        self._on_change = on_change
        self._is_change_reported = True
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
        """Give up the engine in use with the frame at hand, so that ``stop`` returns."""
        self._loop.stop()
        frame, engine, lost = self._loop.at_hand, self._engine, EngineLost(INTERRUPTED)
        if frame is None or not frame.claim():
            return
        if engine is not None:
            self._pipeline.drop_engine(engine, lost)
        self._loop.lose(frame, lost)
        self._has_ended.set()

    def _begin(self, frame: FrameAtHand | None) -> None:
        """Let the loop run on the engine in use, or without one where none is left."""
        self._loop.at_hand = frame
        engine = self._engine = self._pipeline.engine
        start = _Start(self, engine, frame)
        try:
            if engine is not None:
                engine.begin(start.run, start.fail)
                return
            # Images still come, and each of them fails with the reason.
            name, none = "perception-no-engine", (_NoEngine(self._pipeline),)
            threading.Thread(target=start.run, args=none, name=name, daemon=True).start()
        except RuntimeError:  # no thread can be started
            start.run(_NoEngine(self._pipeline))  # on this one: nothing is left to be watched

    def run(self, classifier: FrameClassifier, frame: FrameAtHand | None) -> None:
        """Run the loop; called by the thread of an engine."""
        if self._loop.run(classifier, self._pass_on, frame):
            self._has_ended.set()

    def _pass_on(self, frame: FrameAtHand, error: Exception) -> bool:
        """Go on with another engine, where there is one to go on with; see the loop's run."""
        engine = self._engine
        if engine is None:
            if self._pipeline.is_exhausted:
                return False
        elif not engine.is_lost_by(error):
            return False
        else:
            self._pipeline.drop_engine(engine, error)
        self._begin(frame.with_new_claim())
        self._is_change_reported = False
        self._alarm.set()
        return True

    def fail(self, engine: EngineThread | None, error: Exception) -> None:
        """Start the loop again after a bug in it, unless it has gone on without this engine."""
        self._loop.report(error)
        if engine is not self._engine:
            return
        frame = self._loop.at_hand
        if frame is not None and frame.claim():
            self._loop.lose(frame, error)
        self._begin(None)

    def _watch(self) -> None:
        """Look at the loop again and again, and let lost engines be replaced."""
        name_thread("perc-supervisor")
        turns, standstill = -1, None
        while not self._is_over:
            pause_s = self._pause_s()
            is_alarm = self._alarm.wait(pause_s)
            self._alarm.clear()
            self._report_change()
            self._pipeline.keep_up()
            if is_alarm:
                continue
            frame, engine = self._loop.at_hand, self._engine
            if frame is None or engine is None or self._loop.turns != turns:
                turns, standstill = self._loop.turns, None
            elif standstill is None:
                standstill = Standstill(engine.native_ids)
            elif standstill.look(pause_s) >= engine.timeout_s and frame.claim():
                lost = EngineLost(f"the engine did not answer within {engine.timeout_s:g} s")
                self._pass_on(frame, lost)
                standstill = None

    def _pause_s(self) -> float:
        engine = self._engine
        timeout_s = 1.0 if engine is None else engine.timeout_s
        return max(SHORTEST_PAUSE_S, timeout_s / LOOKS)

    def _report_change(self) -> None:
        """Say, once, that another engine has taken over, or that none is left."""
        if self._is_change_reported:
            return
        self._is_change_reported = True
        try:
            self._on_change()
        except Exception as error:  # noqa: BLE001 - whoever watches must not end
            self._loop.report(error)


class _NoEngine:
    """What classifies where no engine is left."""

    def __init__(self, pipeline: FallbackPipeline) -> None:
        self._pipeline = pipeline

    def run(self, _frame: Frame, *, top_k: int, threshold: float) -> Prediction:
        """Say why not."""
        del top_k, threshold
        self._pipeline.keep_up()  # where there is no thread left, this is the supervisor's
        raise self._pipeline.exhaustion()


class _Start:
    """A start of the loop on one engine, which may come too late; keeps no frame once it began."""

    def __init__(
        self, supervisor: Supervisor, engine: EngineThread | None, frame: FrameAtHand | None
    ) -> None:
        self._supervisor, self._engine, self._frame = supervisor, engine, frame

    def run(self, classifier: FrameClassifier) -> None:
        frame, self._frame = self._frame, None
        self._supervisor.run(classifier, frame)

    def fail(self, error: Exception) -> None:
        self._supervisor.fail(self._engine, error)
