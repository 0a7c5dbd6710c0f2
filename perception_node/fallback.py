# SPDX-License-Identifier: Apache-2.0
"""A pipeline that survives its engine: another one takes over within the frame at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.engine_thread import INTERRUPTED
from perception_node.errors import EngineLost, PerceptionError
from perception_node.frame import Unpacker
from perception_node.health import describe_loss
from perception_node.overlay import draw_overlay

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_node.bundle import ModelBundle
    from perception_node.engine_thread import EngineThread
    from perception_node.frame import Frame
    from perception_node.pipeline import Prediction

START_TIMEOUT_S = 10.0  # to make an engine that takes over


class FallbackPipeline:
    """Runs the first engine until it is lost; from then on, for good, the next.

    Used from one thread at a time, but for ``interrupt`` and the properties.

    Attributes:
        bundle: the model's.
        reason: why the first engine was chosen, in words for a log.
        lost: why the first engine was given up, None while it works.

    """

    def __init__(
        self, bundle: ModelBundle, engines: tuple[EngineThread, ...], reason: str = ""
    ) -> None:
        """Take over ``engines``; the first was started, the others are when they are needed."""
        self.bundle = bundle
        self.reason = reason
        self.lost: Exception | None = None
        self._engines = engines  # what is left of them
        self._last_loss = "the pipeline is closed"
        self._unpacker = Unpacker()

    @property
    def description(self) -> str:
        """What runs at the moment, in words for a log."""
        engines = self._engines
        return engines[0].description if engines else "no engine"

    @property
    def engine(self) -> EngineThread | None:
        """The engine in use; None where none is left."""
        return next((engine for engine in self._engines if not engine.is_lost), None)

    @property
    def is_exhausted(self) -> bool:
        """Whether no engine is left: ``run`` raises at once, only configuring anew helps."""
        return all(engine.is_lost for engine in self._engines)

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
        for engine in self._engines:
            try:
                engine.start(START_TIMEOUT_S)
                return engine.call(
                    lambda pipeline: pipeline.run(frame, top_k=top_k, threshold=threshold)
                )
            except Exception as error:
                if not engine.is_lost:
                    raise
                self.drop_engine(error)
        raise self.exhaustion()

    def exhaustion(self) -> EngineLost:
        """Return the error of a frame that comes when no engine is left."""
        return EngineLost(f"no engine is left: {self._last_loss}; clean up and configure again")

    def draw(self, frame: Frame, prediction: Prediction) -> NDArray[np.uint8]:
        """Return the frame as uint8 BGR (height, width, 3) with the hypotheses drawn on it."""
        return draw_overlay(*self._unpacker.unpack(frame), prediction.hypotheses)

    def interrupt(self) -> None:
        """End a ``run`` that waits, and all later ones, with ``EngineLost``; from any thread."""
        self.lost = self.lost or EngineLost(INTERRUPTED)
        for engine in self._engines:
            engine.interrupt()

    def close(self) -> None:
        """Free the engines, one after the other; one that hangs is left to its thread."""
        for engine in self._engines:
            engine.close()
        self._engines = ()

    def __enter__(self) -> FallbackPipeline:
        """Return the pipeline itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the engines."""
        self.close()

    def drop_engine(self, error: Exception) -> None:
        """Go on with the next engine; the thread of this one frees it, if it gets to it."""
        self._engines[0].give_up(describe_loss(error))
        if isinstance(error, PerceptionError):  # only a bug's traceback is logged
            # They refer to the engine, the frame and to us, and the collector may be off.
            error.__traceback__ = error.__cause__ = error.__context__ = None
        self._engines = self._engines[1:]
        self._last_loss = describe_loss(error)
        if self.lost is None:
            self.lost = error
