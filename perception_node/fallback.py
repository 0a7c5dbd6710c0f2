# SPDX-License-Identifier: Apache-2.0
"""A pipeline that survives its engine: the standby takes over within the frame at hand.

The primary engine lives on a thread of its own, which makes it, runs it and closes it: a CUDA
context wants one owner, and a thread that waits can give up on one that hangs.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from perception_node.errors import EngineLost, FrameError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.bundle import ModelBundle
    from perception_node.frame import Frame
    from perception_node.pipeline import Pipeline, Prediction

Result = TypeVar("Result")
_Answer: TypeAlias = "SimpleQueue[tuple[object, Exception | None]]"

CLOSE_TIMEOUT_S = 2.0


class EngineThread:
    """One thread that does jobs in order, for one caller at a time that need not wait for ever."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], object], _Answer] | None] = SimpleQueue()
        self._is_lost = False
        # A daemon: a thread that hangs in a driver must not keep the process from ending.
        threading.Thread(target=self._work, name="perception-engine", daemon=True).start()

    def call(self, job: Callable[[], Result], timeout_s: float | None = None) -> Result:
        """Do ``job`` on the thread and return what it returns, or raise what it raises.

        Raises:
            EngineLost: there was no answer within ``timeout_s`` (None waits for ever), now or
                earlier; only ``abandon`` may be called from then on.

        """
        if self._is_lost:
            msg = "the engine's thread hangs and was given up"
            raise EngineLost(msg)
        answer: _Answer = SimpleQueue()  # of its own: a call that was interrupted leaves one
        self._jobs.put((job, answer))
        try:
            value, error = answer.get(timeout=timeout_s)
        except Empty:
            self._is_lost = True
            msg = f"the engine did not answer within {timeout_s:g} s"
            raise EngineLost(msg) from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # what the job returned

    def abandon(self, *last_jobs: Callable[[], object]) -> None:
        """End the thread after the job at hand and ``last_jobs``, without waiting for them."""
        self._is_lost = True
        for job in last_jobs:
            self._jobs.put((job, SimpleQueue()))
        self._jobs.put(None)

    def _work(self) -> None:
        while (order := self._jobs.get()) is not None:
            job, answer = order
            try:
                answer.put((job(), None))
            except Exception as error:  # noqa: BLE001 - raised again where call() waits
                answer.put((None, error))


class FallbackPipeline:
    """Runs the primary pipeline until it fails once; from then on, for good, the standby.

    Has the methods of ``Pipeline``. Used from one thread at a time.

    Attributes:
        bundle: the model's.
        reason: why the primary was chosen, in words for a log.
        lost: why the primary was given up, None while it works.

    """

    def __init__(
        self,
        make_primary: Callable[[], Pipeline],
        standby: Pipeline,
        *,
        timeout_s: float,
        reason: str = "",
    ) -> None:
        """Make the primary on its own thread.

        Args:
            make_primary: makes a warm pipeline, on the engine's thread; may take minutes.
            standby: warm, ready to take over; belongs to this pipeline from here on.
            timeout_s: a frame that takes the primary longer than this means that it hangs.
            reason: why the primary was chosen.

        Raises:
            PerceptionError: what ``make_primary`` raised; the standby is still the caller's.

        """
        self._thread = EngineThread()
        self._timeout_s = timeout_s
        self._standby = standby
        self.bundle: ModelBundle = standby.bundle
        self.reason = reason
        self.lost: Exception | None = None
        try:
            self._primary = self._thread.call(make_primary)
        except BaseException:
            self._thread.abandon()
            raise

    @property
    def description(self) -> str:
        """What runs at the moment, in words for a log."""
        return self._primary.description if self.lost is None else self._standby.description

    @property
    def smallest_side(self) -> int:
        """Pixels that the shorter side of an image should keep; see ``Pipeline``."""
        return self._standby.smallest_side

    def run(self, frame: Frame, *, top_k: int, threshold: float) -> Prediction:
        """Classify one frame, with the standby if the primary fails on it or has failed before.

        Raises:
            EngineError: the standby failed too.

        """
        if self.lost is None:
            try:
                return self._thread.call(
                    lambda: self._primary.run(frame, top_k=top_k, threshold=threshold),
                    self._timeout_s,
                )
            except FrameError:
                raise  # the frame's fault: the standby could not read it either
            except Exception as error:  # noqa: BLE001 - whatever it is, this engine is not to be trusted
                self._lose(error)
        return self._standby.run(frame, top_k=top_k, threshold=threshold)

    def draw(self, frame: Frame, prediction: Prediction) -> NDArray[np.uint8]:
        """Return the frame with the hypotheses drawn on it; see ``Pipeline.draw``."""
        return self._standby.draw(frame, prediction)

    def close(self) -> None:
        """Free both engines; one that hangs or cannot be freed is left to its thread."""
        if self.lost is None:
            try:
                self._thread.call(self._primary.close, CLOSE_TIMEOUT_S)
            except Exception as error:  # noqa: BLE001 - the standby must be freed all the same
                self.lost = error
            self._thread.abandon()
        self._standby.close()

    def __enter__(self) -> FallbackPipeline:
        """Return the pipeline itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Free both engines."""
        self.close()

    def _lose(self, error: Exception) -> None:
        """Give the primary up for good; its thread frees it, when and if it gets to it."""
        self.lost = error
        self._thread.abandon(self._primary.close)
