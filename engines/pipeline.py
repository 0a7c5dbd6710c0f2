# SPDX-License-Identifier: Apache-2.0
"""The way of one frame: unpack, preprocess, infer, postprocess. No ROS, no clock of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from perception_node.vision.frame import Frame
from perception_node.vision.postprocess import Hypothesis, Postprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.engines.base import Engine
    from perception_node.model.bundle import ModelBundle


WARM_UP_RUNS = 10
WARM_UP_SIZE = (480, 640)


class StageTimes(NamedTuple):
    """How long each stage of one frame took, in nanoseconds."""

    preprocess_ns: int
    infer_ns: int
    postprocess_ns: int


class Prediction(NamedTuple):
    """What the model says of one frame.

    Attributes:
        hypotheses: at most ``top_k``, best first; empty where none reaches the threshold.
        stamp_ns: the frame's own stamp, unchanged.
        frame_id: the frame's own coordinate frame, unchanged.
        times: how long each stage took.

    """

    hypotheses: tuple[Hypothesis, ...]
    stamp_ns: int
    frame_id: str
    times: StageTimes


class FrameClassifier(Protocol):
    """Classifies one frame at a time."""

    def run(self, frame: Frame, *, top_k: int, threshold: float) -> Prediction:
        """Classify one frame; see ``Pipeline.run``."""


class Pipeline:
    """Classifies frames with one engine; all buffers are made before the first frame.

    Used from one thread at a time.

    Attributes:
        bundle: the model's.
        engine: what it runs on.

    """

    def __init__(
        self,
        bundle: ModelBundle,
        engine: Engine,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Connect a bundle's preprocessing and labels to an engine made from the same bundle.

        The engine belongs to the pipeline from here on, also if this fails.

        Raises:
            EngineError: the engine cannot prepare frames.

        """
        manifest = bundle.manifest
        self.bundle = bundle
        self.engine = engine
        self._clock = clock
        try:
            self._preprocess = engine.preprocessor(manifest.preprocessing)
        except BaseException:
            engine.close()
            raise
        output = manifest.output
        self._postprocess = Postprocessor(output.kind, bundle.labels, output.thresholds)

    def run(self, frame: Frame, *, top_k: int, threshold: float) -> Prediction:
        """Classify one frame.

        Raises:
            EngineError: the engine failed, or its output holds NaN or infinite values.

        """
        start = self._clock()
        self._preprocess(frame)
        ready = self._clock()
        self.engine.output.fill(np.nan)  # an engine that writes nothing must not repeat itself
        self.engine.infer()
        inferred = self._clock()
        hypotheses = self._postprocess.best(self.engine.output, top_k=top_k, threshold=threshold)
        times = StageTimes(ready - start, inferred - ready, self._clock() - inferred)
        return Prediction(hypotheses, frame.stamp_ns, frame.frame_id, times)

    @property
    def description(self) -> str:
        """What runs, in words for a log; see ``Engine.description``."""
        return self.engine.description

    def warm_up(self, clock: Callable[[], int] | None = None) -> int:
        """Classify black images, so that the first real frame costs no more than the next.

        Returns the nanoseconds that one took, as the median, by ``clock`` or else by its own.

        Raises:
            EngineError: the engine fails on them.

        """
        frame = Frame.from_bgr(np.zeros((*WARM_UP_SIZE, 3), np.uint8))
        clock, times_ns = clock or self._clock, []
        for _ in range(WARM_UP_RUNS):
            begin_ns = clock()
            self.run(frame, top_k=1, threshold=0.0)
            times_ns.append(clock() - begin_ns)
        return sorted(times_ns)[WARM_UP_RUNS // 2]

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Pipeline:
        """Return the pipeline itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the engine."""
        self.close()
