# SPDX-License-Identifier: Apache-2.0
"""A thread for each engine, which makes it, runs it and closes it: a CUDA context wants one owner.

The node's frame loop runs on it (``begin``). Others hand over one frame after the other (``call``)
and can give up on an engine that hangs.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from perception_node.engines.base import describe_loss
from perception_node.engines.standstill import LOOKS, Standstill
from perception_node.errors import EngineLost, FrameError
from perception_node.system.realtime import name_thread
from perception_node.system.threads import find_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.engines.pipeline import Pipeline

Result = TypeVar("Result")
_Answer: TypeAlias = "SimpleQueue[tuple[object, Exception | None]]"

CLOSE_TIMEOUT_S = 1.0
INTERRUPT_TIMEOUT_S = 5.0  # to finish making an engine that nobody wants any more
THREAD_NAME = "perception-engine"
INTERRUPTED = "it did not finish its frame in time to stop"


class EngineThread:
    """An engine on a thread of its own, for the frame loop or for one caller at a time.

    What hangs there refers to this object and to the frame at hand, and to nothing else.

    Attributes:
        timeout_s: an engine that has not answered after so long hangs; time in which it was kept
            from its work does not count, see ``Standstill``.
        native_ids: the operating system's numbers of the thread and of those that the engine
            itself has started, such as ONNX Runtime's pool; empty before ``start``.

    """

    def __init__(
        self, make: Callable[[], Pipeline], timeout_s: float, *, survives_errors: bool = False
    ) -> None:
        """Prepare the thread; ``start`` starts it.

        Args:
            make: makes a warm pipeline, on the thread.
            timeout_s: see above.
            survives_errors: an error costs a frame; otherwise it costs the engine.

        """
        self._make: Callable[[], Pipeline] | None = make
        self.timeout_s = timeout_s
        self._survives_errors = survives_errors
        self._pipeline: Pipeline | None = None  # the thread's
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[tuple[Callable[[], object], _Answer] | None] = SimpleQueue()
        self._answer: _Answer = SimpleQueue()
        self._loss = ""
        self.native_ids: tuple[int, ...] = ()

    @property
    def is_lost(self) -> bool:
        """Whether the engine was given up; every call raises ``EngineLost`` at once."""
        return bool(self._loss)

    @property
    def is_made(self) -> bool:
        """Whether the engine can answer, or could."""
        return self._pipeline is not None

    @property
    def is_running(self) -> bool:
        """Whether its thread has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def description(self) -> str:
        """What runs, in words for a log; see ``Engine.description``."""
        pipeline = self._pipeline
        return "an engine in the making" if pipeline is None else pipeline.description

    def start(self, timeout_s: float | None = None) -> None:
        """Make the engine, if nobody has tried to before.

        Raises:
            PerceptionError: what ``make`` raised; the engine is lost.
            EngineLost: it took longer than ``timeout_s`` (None waits for ever), or ``interrupt``.

        """
        make, self._make = self._make, None
        if make is None:
            return
        try:
            self._launch()
            self._ask(lambda: self._load(make), timeout_s)
        except BaseException as error:
            self.give_up("the engine could not be made")
            if not isinstance(error, Exception) and self._thread is not None:
                # Ctrl-C: libraries abort the process if Python ends while they work on a thread.
                self._thread.join(INTERRUPT_TIMEOUT_S)
            raise

    def begin(
        self, job: Callable[[Pipeline], None], on_failure: Callable[[Exception], None]
    ) -> None:
        """Do a job that takes long, and make the engine before if that is to be done; do not wait.

        Args:
            job: called with the pipeline, on the thread; no ``call`` may come meanwhile.
            on_failure: called on the thread with what making the engine, or the job, has raised.

        Raises:
            RuntimeError: no thread can be started.

        """
        make, self._make = self._make, None

        def work() -> None:
            try:
                if make is not None:
                    self._load(make)
                job(cast("Pipeline", self._pipeline))
            except Exception as error:  # noqa: BLE001 - whoever waits is on another thread
                on_failure(error)

        if make is not None:
            self._launch()
        self._jobs.put((work, SimpleQueue()))

    def is_lost_by(self, error: Exception) -> bool:
        """Return whether an error costs the engine, and not only the frame."""
        if isinstance(error, FrameError):
            return False  # no other engine could read it either
        is_fatal = isinstance(error, EngineLost) or not self._survives_errors
        return is_fatal or not self.is_made

    def call(self, job: Callable[[Pipeline], Result]) -> Result:
        """Do ``job`` with the pipeline on the thread; return what it returns or raises.

        Raises:
            EngineLost: the engine hangs, has lost its device or was given up before.

        """
        try:
            return self._ask(lambda: job(cast("Pipeline", self._pipeline)), self.timeout_s)
        except Exception as error:
            if self.is_lost_by(error):
                self.give_up(describe_loss(error))
            raise

    def interrupt(self) -> None:
        """Give the engine up, and stop waiting for it; any thread may call this."""
        self._loss = self._loss or INTERRUPTED
        self._answer.put((None, EngineLost(INTERRUPTED)))

    def give_up(self, why: str) -> None:
        """End the thread after the job at hand, and free the engine there, without waiting."""
        self._loss = self._loss or why
        self._jobs.put(None)

    def close(self) -> None:
        """Free the engine and end the thread; one that hangs is left alone."""
        self.give_up("the engine was closed")
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _launch(self) -> None:
        # A daemon: a thread that hangs in a driver must not keep the process from ending.
        thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        thread.start()
        self._thread = thread

    def _ask(self, job: Callable[[], Result], timeout_s: float | None) -> Result:
        # A queue of its own: a call that was broken off (Ctrl-C) leaves an answer in it.
        answer: _Answer = SimpleQueue()
        self._answer = answer
        if self.is_lost:  # asked after that: interrupt() does the two in reverse
            raise EngineLost(self._loss)
        self._jobs.put((job, answer))
        value, error = answer.get() if timeout_s is None else self._wait(answer, timeout_s)
        try:
            if error is not None:
                raise error
        finally:
            del error  # it refers to this frame by its traceback: a cycle only the collector ends
        return cast("Result", value)

    def _wait(self, answer: _Answer, timeout_s: float) -> tuple[object, Exception | None]:
        """Return the answer, or ``EngineLost`` where the engine hangs."""
        pause_s, standstill = timeout_s / LOOKS, None
        while standstill is None or standstill.look(pause_s) < timeout_s:
            with suppress(Empty):
                return answer.get(timeout=pause_s)
            standstill = standstill or Standstill(self.native_ids)
        return None, EngineLost(f"the engine did not answer within {timeout_s:g} s")

    def _work(self) -> None:
        name_thread("perc-engine")
        while (order := self._jobs.get()) is not None:
            job, answer = order
            answer.put(_attempt(job))
            del order, job, answer  # they hold a frame
        if self._pipeline is not None:
            with suppress(Exception):  # the device may be lost; nobody is left to be told
                self._pipeline.close()

    def _load(self, make: Callable[[], Pipeline]) -> None:
        others = find_threads()
        self._pipeline = make()
        self.native_ids = (threading.get_native_id(), *sorted(find_threads() - others))


def _attempt(job: Callable[[], object]) -> tuple[object, Exception | None]:
    try:
        return job(), None
    except Exception as error:  # noqa: BLE001 - raised again where the caller waits
        return None, error
