# SPDX-License-Identifier: Apache-2.0
"""One engine, many requests: a bounded queue with a deadline for each image."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from logging import getLogger
from typing import TYPE_CHECKING

from perception_node.engines.base import describe_loss
from perception_node.errors import DeadlineMissed, PerceptionError, ServerBusy
from perception_node.system.realtime import name_thread
from perception_node.vision.decode import Decoder
from perception_node.vision.frame import Frame
from perception_node.vision.samples import SampleScaler

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.engines.pipeline import Prediction
    from perception_node.serving.settings import ServerSettings

CLOSE_TIMEOUT_S = 1.0  # for the image at work
NEWEST_SHARE = 0.2  # of the newest image in the mean time per image
STOPPING = "the server is stopping; try another one, or later"
logger = getLogger("perception.serve")


class ClassificationQueue:
    """Classifies the images of many threads, one after the other, in the order they came.

    One thread decodes and runs the pipeline: one decoded image exists at a time, and the engine
    has one caller. An image that nobody waits for any more keeps its place until its turn and is
    skipped then, so that an engine that hangs fills the queue and does not make it grow.

    Attributes:
        pipeline: what classifies; closed by whoever made it, after this.
        capacity: images that may wait or be at work.
        on_exhausted: called from the worker when no engine is left; to be set by the owner.

    """

    on_exhausted: Callable[[], None]

    def __init__(
        self, pipeline: FallbackPipeline, config: NodeConfig, settings: ServerSettings
    ) -> None:
        """Start the worker; ``config`` gives top_k, threshold and the limit on pixels."""
        self.pipeline = pipeline
        self.capacity = settings.queue
        self.on_exhausted = lambda: None
        self._config = config
        self._deadline_ms = settings.deadline_ms
        self._scaler = SampleScaler(config.cameras.mono16_range, warn=logger.warning)
        self._decoder = Decoder(
            config.cameras.max_image_pixels,
            pipeline.smallest_side,
            config.cameras.damaged_images,
            self._scaler,
        )
        self._lock = threading.Lock()
        self._depth = 0
        self._is_closed = False
        self._mean_s = 0.0  # per image
        self._worker = ThreadPoolExecutor(1, initializer=name_thread, initargs=("perc-worker",))

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.pipeline.bundle.manifest.name

    @property
    def depth(self) -> int:
        """Images that wait or are at work."""
        return self._depth

    def classify(self, data: bytes, arrival_ns: int | None = None) -> Prediction:
        """Classify a JPEG or PNG; any thread may call this, and waits.

        Args:
            data: the file's bytes.
            arrival_ns: when the request came, on the monotonic clock; None for now. The deadline
                counts from here.

        Raises:
            ServerBusy: all places are taken, or the queue is closed.
            DeadlineMissed: it took longer than ``deadline_ms``, waiting included.
            FrameError: the image cannot be decoded, or is too large.
            EngineError: the engine failed on it; EngineLost where no engine is left.

        """
        begin_ns = time.monotonic_ns() if arrival_ns is None else arrival_ns
        end_ns = begin_ns + self._deadline_ms * 1_000_000
        job = self._enqueue(data, end_ns)
        try:
            wait((job,), max(0, end_ns - time.monotonic_ns()) / 1e9)
            prediction = job.result() if job.done() else None
        finally:
            del job  # an error in it refers to us: a cycle, which would keep the image for a while
        if prediction is None:
            msg = f"the image was not classified within {self._deadline_ms} ms; try again later"
            raise DeadlineMissed(msg)
        return prediction

    def close(self) -> None:
        """Refuse what waits and what comes, and end the worker; twice is no error.

        An engine that does not finish the image at work in time is given up.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            last = self._worker.submit(lambda: None)
        wait((last,), CLOSE_TIMEOUT_S)
        if not last.done():
            self.pipeline.interrupt()
        self._worker.shutdown()

    def __enter__(self) -> ClassificationQueue:
        """Return the queue itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def _enqueue(self, data: bytes, end_ns: int) -> Future[Prediction | None]:
        with self._lock:  # counting and queueing at once: the order is that of the places
            if self._is_closed:
                raise ServerBusy(STOPPING)
            if self._depth >= self.capacity:
                raise self._busy()
            self._depth += 1
            return self._worker.submit(self._work, data, end_ns)

    def _work(self, data: bytes, end_ns: int) -> Prediction | None:
        """Classify one image on the worker; None where nobody waits for it any more."""
        begin_ns = time.monotonic_ns()
        is_expired = begin_ns >= end_ns
        try:
            if self._is_closed:
                raise ServerBusy(STOPPING)
            return None if is_expired else self._run(data, end_ns)
        finally:
            took_s = None if is_expired else (time.monotonic_ns() - begin_ns) / 1e9
            self._leave(took_s)

    def _run(self, data: bytes, end_ns: int) -> Prediction | None:
        lost = self.pipeline.lost
        self._scaler.forget()  # the range of another client's image
        frame = Frame.from_bgr(self._decoder.decode(data))
        if time.monotonic_ns() >= end_ns:  # decoding took that long: the engine is spared
            return None
        try:
            config = self._config.output
            return self.pipeline.run(frame, top_k=config.top_k, threshold=config.threshold)
        finally:
            if self.pipeline.lost is not lost:
                self._log_loss(self.pipeline.lost)
            if self.pipeline.is_exhausted and not self._is_closed:
                self.on_exhausted()

    def _leave(self, took_s: float | None) -> None:
        with self._lock:
            self._depth -= 1
            if took_s is not None:
                self._mean_s += NEWEST_SHARE * (took_s - self._mean_s)

    def _busy(self) -> ServerBusy:
        wait_s = self._depth * self._mean_s
        return ServerBusy(
            f"{self.capacity} images are waiting already; try again in a moment", math.ceil(wait_s)
        )

    def _log_loss(self, loss: Exception | None) -> None:
        if loss is None:
            return
        bug = None if isinstance(loss, PerceptionError) else loss
        logger.error(
            "an engine was given up: %s; now: %s; restart the server to get it back",
            describe_loss(loss),
            self.pipeline.description,
            exc_info=bug,
        )
