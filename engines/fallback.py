# SPDX-License-Identifier: Apache-2.0
"""A pipeline that survives its engine: another one takes over within the frame at hand."""

from __future__ import annotations

import math
import threading
import time
import weakref
from typing import TYPE_CHECKING

from perception_node.engines.base import describe_loss
from perception_node.engines.engine_thread import INTERRUPTED
from perception_node.errors import EngineLost, PerceptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.engines.engine_thread import EngineThread
    from perception_node.engines.pipeline import Prediction
    from perception_node.model.bundle import ModelBundle
    from perception_node.vision.frame import Frame

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # before an engine is made in the place of a lost one
MOST_HANGING = 4  # each keeps its memory
ADVICE = "clean up and configure again"
MAKING = "another is being made"


class FallbackPipeline:
    """Runs one engine until it is lost, then the next; where it can, it makes others meanwhile.

    Used from one thread at a time, but for ``interrupt`` and the properties.

    Attributes:
        bundle: the model's.
        reason: why the first engine was chosen, in words for a log.
        lost: why the first engine was given up, None while it works.

    """

    def __init__(
        self,
        bundle: ModelBundle,
        engines: tuple[EngineThread, ...],
        reason: str = "",
        prepare: Callable[[], EngineThread] | None = None,
    ) -> None:
        """Take over ``engines``, all of them started; ``prepare`` returns one to be made later."""
        self.bundle = bundle
        self.reason = reason
        self.lost: Exception | None = None
        self._engines = engines  # what is left of them
        self._lock = threading.Lock()  # of what is left: a new engine comes from its own thread
        self._prepare = prepare
        self._last_loss = "the pipeline is closed"
        self._exhausted_since_s: float | None = None
        self._pause_s, self._lost_at_s, self._due_s = 0.0, -math.inf, math.inf
        self._hanging: list[weakref.ref[EngineThread]] = []  # a thread that hangs keeps its engine

    @property
    def description(self) -> str:
        """What runs at the moment, in words for a log."""
        engine = self.engine
        return "no engine" if engine is None else engine.description

    @property
    def method(self) -> str:
        """What makes the results, in words: the model, the engine that really runs, and why."""
        why = self.reason if self.lost is None else describe_loss(self.lost)
        return f"{self.bundle.manifest.name} on {self.description} ({why})"

    @property
    def engine(self) -> EngineThread | None:
        """The engine in use; None where none is left."""
        return next((engine for engine in self._engines if not engine.is_lost), None)

    @property
    def is_exhausted(self) -> bool:
        """Whether no engine is left at the moment: ``run`` raises at once."""
        return self.engine is None

    @property
    def is_over(self) -> bool:
        """Whether no engine will ever come again; only configuring helps."""
        return self.is_exhausted and self._prepare is None

    @property
    def exhausted_s(self) -> float:
        """For how long no engine has been left, in seconds; 0 while there is one."""
        since_s = self._exhausted_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def outlook(self) -> str:
        """What comes where no engine is left, in words for a log."""
        if self._prepare is None:
            return ADVICE
        if self._count_hanging() >= MOST_HANGING:
            return f"{MOST_HANGING} engines hang, so no other is made; start the process again"
        pause_s = self._due_s - time.monotonic()
        return f"another is made in {pause_s:.0f} s" if 0 < pause_s < math.inf else MAKING

    @property
    def native_thread_ids(self) -> tuple[int, ...]:
        """The operating system's numbers of the threads whose engines run or stand by."""
        return tuple(number for engine in self._engines for number in engine.native_ids)

    @property
    def smallest_side(self) -> int:
        """Pixels that the shorter side of an image should keep: twice what the model sees."""
        return self.bundle.manifest.smallest_side

    def run(self, frame: Frame, *, top_k: int, threshold: float) -> Prediction:
        """Classify one frame, with the next engine if the present one is lost over it.

        Raises:
            EngineError: the frame failed; the same engine is tried with the next frame.
            EngineLost: no engine is left, now or since an earlier frame.

        """
        self.keep_up()
        while self._engines:
            engine = self._engines[0]
            try:
                return engine.call(
                    lambda pipeline: pipeline.run(frame, top_k=top_k, threshold=threshold)
                )
            except Exception as error:
                if not engine.is_lost:
                    raise
                self.drop_engine(engine, error)
        raise self.exhaustion()

    def exhaustion(self) -> EngineLost:
        """Return the error of a frame that comes when no engine is left."""
        hope = ADVICE if self._prepare is None else "another is made as soon as possible"
        return EngineLost(f"no engine is left: {self._last_loss}; {hope}")

    def interrupt(self) -> None:
        """End a ``run`` that waits, and all later ones, with ``EngineLost``; from any thread."""
        self.lost = self.lost or EngineLost(INTERRUPTED)
        self._prepare = None
        for engine in self._engines:
            engine.interrupt()

    def close(self) -> None:
        """Free the engines, one after the other; one that hangs is left to its thread."""
        with self._lock:
            engines, self._engines, self._prepare = self._engines, (), None
        for engine in engines:
            engine.close()

    def __enter__(self) -> FallbackPipeline:
        """Return the pipeline itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the engines."""
        self.close()

    def drop_engine(self, engine: EngineThread, error: Exception) -> None:
        """Go on with the next engine; the thread of this one frees it, if it gets to it."""
        engine.give_up(describe_loss(error))
        if isinstance(error, PerceptionError):  # only a bug's traceback is logged
            # They refer to the engine, the frame and to us, and the collector may be off.
            error.__traceback__ = error.__cause__ = error.__context__ = None
        with self._lock:
            self._engines = tuple(other for other in self._engines if other is not engine)
        self._hanging.append(weakref.ref(engine))
        if self.lost is None:
            self.lost = error
        self._plan_another(error)

    def keep_up(self) -> None:
        """Begin to make another engine where that is due; to be called again and again."""
        prepare = self._prepare
        if prepare is None or time.monotonic() < self._due_s:
            return
        if self._count_hanging() >= MOST_HANGING:
            return
        self._due_s = math.inf
        engine = prepare()

        def fail(error: Exception) -> None:
            engine.give_up(describe_loss(error))
            self._plan_another(error)

        try:
            engine.begin(lambda _: self._take_in(engine), fail)
        except RuntimeError as error:  # no thread can be started
            fail(error)

    def _take_in(self, engine: EngineThread) -> None:
        """Let an engine stand by, or run where none is left; called by its own thread."""
        with self._lock:
            if self._prepare is not None:
                self._engines += (engine,)
                self._exhausted_since_s = None
                return
        engine.give_up("the pipeline is closed")

    def _plan_another(self, error: Exception) -> None:
        """Note when to make an engine after a loss, or after one could not be made."""
        now_s = time.monotonic()
        is_first = now_s - self._lost_at_s > 2 * LONGEST_PAUSE_S
        self._pause_s = FIRST_PAUSE_S if is_first else min(LONGEST_PAUSE_S, 2 * self._pause_s)
        self._last_loss, self._lost_at_s = describe_loss(error), now_s
        self._due_s = now_s + self._pause_s
        if self.is_exhausted and self._exhausted_since_s is None:
            self._exhausted_since_s = now_s

    def _count_hanging(self) -> int:
        """Count the engines that were lost and whose threads have not ended."""
        self._hanging = [ref for ref in self._hanging if (one := ref()) and one.is_running]
        return len(self._hanging)
