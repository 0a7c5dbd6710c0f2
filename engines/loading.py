# SPDX-License-Identifier: Apache-2.0
"""Load a model on a thread of its own: within a time, with words for its phase, to be given up."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perception_node.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.engines.tensorrt.progress import BuildProgress

LOOK_S = 0.1
LONGEST_LOOK_S = 2.0  # between two looks; the rest of it the whole process stood still
THREAD_NAME = "perception-loading"


class Phases:
    """The phases of loading: said by the thread that loads, read by who waits.

    Attributes:
        phase: in words.
        is_building: a plan is being built, which may take as long as it takes.
        given_up: set once the model is no longer wanted.

    """

    def __init__(self) -> None:
        self.phase = "starting"
        self.is_building = False
        self.given_up = threading.Event()
        self._stop: Callable[[], None] | None = None

    def say(self, phase: str) -> None:
        """Note the phase that begins.

        Raises:
            EngineError: the model is no longer wanted.

        """
        self._require_wanted()
        self.phase, self.is_building = phase, False

    def say_build(self, build: BuildProgress) -> None:
        """Note how far the build of a plan is."""
        self.phase, self.is_building = f"building the TensorRT plan: {build.phase}", True

    @contextmanager
    def stopped_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """Let ``give_up`` call ``stop`` in this block, from another thread.

        Raises:
            EngineError: the model is no longer wanted.

        """
        self._stop = stop
        try:
            self._require_wanted()
            yield
        finally:
            self._stop = None

    def give_up(self) -> None:
        """End the phase at hand where that is possible, and begin no other."""
        self.given_up.set()
        if (stop := self._stop) is not None:
            stop()

    def _require_wanted(self) -> None:
        if self.given_up.is_set():
            msg = "loading was given up"
            raise EngineError(msg)


class Loading:
    """One model that is being loaded.

    What hangs there holds its thread for ever, and nothing else: it is given up. ``look`` and
    ``wait`` are for one thread, the others for any.
    """

    def __init__(self, load: Callable[[Phases], FallbackPipeline], timeout_s: float) -> None:
        """Prepare.

        Args:
            load: loads the model, and says what it is at.
            timeout_s: how long it may take, without the build of a plan.

        """
        self._load, self._timeout_s = load, timeout_s
        self._progress = Phases()
        self._begin_s = self._looked_s = time.monotonic()
        self._spent_s = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._is_abandoned = False
        self._pipeline: FallbackPipeline | None = None
        self._error: Exception | None = None
        self._on_end: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    @property
    def phase(self) -> str:
        """What it is at, in words."""
        return self._progress.phase

    @property
    def is_building(self) -> bool:
        """Whether it builds a plan, for which its time does not count."""
        return self._progress.is_building

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begin_s

    def start(self, on_end: Callable[[], None] | None = None) -> None:
        """Begin; ``on_end`` is called once it is over, from whatever thread, also if it failed."""
        self._on_end = on_end
        try:
            self._thread.start()
        except RuntimeError as error:  # the process table is full
            self._end(None, error)

    def look(self) -> None:
        """Give up what takes too long; to be called several times a second.

        A process that was stopped (SIGSTOP, a frozen container) must not blame the model: of the
        time between two looks at most LONGEST_LOOK_S count.
        """
        now_s = time.monotonic()
        if not self._progress.is_building:
            self._spent_s += min(now_s - self._looked_s, LONGEST_LOOK_S)
        self._looked_s = now_s
        if self._spent_s > self._timeout_s:
            problem = f"the model was not ready in {self._timeout_s:g} s"
            advice = "raise configure_timeout_s (--configure-timeout) if it needs longer"
            self._abandon(f"{problem}, at last: {self.phase}; {advice}")

    def give_up(self, why: str) -> None:
        """Stop, without waiting for it; ``wait`` then raises."""
        self._abandon(f"loading was given up at: {self.phase}; {why}")

    def wait(self) -> FallbackPipeline:
        """Return the pipeline once it is loaded; it is the caller's.

        Raises:
            EngineError: it took too long, or was given up.
            PerceptionError: what loading raised.

        """
        try:
            while not self._over.wait(LOOK_S):
                self.look()
        except BaseException:  # Ctrl-C
            self.give_up("interrupted")
            raise
        if not self._is_abandoned and self._thread.ident is not None:
            self._thread.join()
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # it refers to this frame by its traceback: a cycle only the collector ends
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            msg = "loading was given up"
            raise EngineError(msg)
        return pipeline

    def discard(self, why: str) -> None:
        """Stop, without waiting for it, and free a model that was loaded and not fetched."""
        self.give_up(why)
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread of what was given up, but not for ever."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _abandon(self, problem: str) -> None:
        if self._end(None, EngineError(problem), is_abandoned=True):
            self._progress.give_up()

    def _run(self) -> None:
        try:
            pipeline = self._load(self._progress)
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits
            self._end(None, error)
            return
        if not self._end(pipeline, None):
            pipeline.close()

    def _end(
        self,
        pipeline: FallbackPipeline | None,
        error: Exception | None,
        *,
        is_abandoned: bool = False,
    ) -> bool:
        """Note the outcome; False if there is one already."""
        with self._lock:
            if self._over.is_set():
                return False
            self._pipeline, self._error = pipeline, error
            self._is_abandoned = is_abandoned
            self._over.set()
        if self._on_end is not None:
            self._on_end()
        return True


def is_stuck() -> bool:
    """Whether a library still works on a model that was given up.

    Some abort the process if Python ends meanwhile: leave it by ``os._exit``.
    """
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())
