# SPDX-License-Identifier: Apache-2.0
"""The one thread from the middleware to the result, for one camera or several.

It waits for the cameras in C, takes the newest image of the camera whose deadline is nearest,
reads, classifies and publishes it. An image that a newer one replaces meanwhile is never copied.

Another thread can take a frame away from an engine that hangs: each frame has a claim, which one
of the two gets. Only who has it publishes and counts the frame.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perception_node.errors import FrameError, LateFrame, SlowDecoding, StaleFrame
from perception_node.flow.camera import FrameTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.pipeline import FrameClassifier, Prediction
    from perception_node.flow.camera import Arrival, Camera, ImageSource
    from perception_node.untyped import Message
    from perception_node.vision.frame import Frame

DECODED_NS = 1_000_000  # reading a raw image takes a fiftieth of this
AFTER_A_BUG_S = 0.1  # a wait that fails at once must not take a whole core


@dataclass(slots=True)
class FrameAtHand:
    """A frame on its way through the engine, and all that its end needs.

    Attributes:
        camera: index of its camera.
        message: the image as it was taken; the frame is a view of it.
        frame: what was read.
        config: the configuration that counts for it.
        limit_ns: its deadline.
        arrived_ns: when it reached this process, on the steady clock.
        begin_ns: when it was taken.
        trace: where its time went so far.

    """

    camera: int
    message: Message
    frame: Frame
    config: NodeConfig
    limit_ns: int
    arrived_ns: int
    begin_ns: int
    trace: FrameTrace
    _claim: list[None] = field(default_factory=lambda: [None])

    def claim(self) -> bool:
        """Take the right to end this frame; one thread gets it, once."""
        try:
            self._claim.pop()  # atomic
        except IndexError:
            return False
        return True

    def with_new_claim(self) -> FrameAtHand:
        """Return the same frame for another engine; the old claim stays worthless."""
        return replace(self, _claim=[None])


class FrameLoop:
    """Classifies the newest image of each camera.

    Used from one thread at a time. One that hangs in its engine has lost its frame, and does
    nothing here any more when it comes back.

    Attributes:
        at_hand: the frame that an engine works on, or is to begin with; None between two.
        turns: how many frames were given to an engine.
        infer_ns: how long the last inference took; None before the first.

    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        images: ImageSource,
        get_config: Callable[[], NodeConfig],
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare; ``get_config`` is asked once per frame, so that no result mixes two."""
        self.at_hand: FrameAtHand | None = None
        self.turns = 0
        self.infer_ns: int | None = None
        self._cameras = cameras
        self._images = images
        self._get_config = get_config
        self._config: NodeConfig | None = None
        self._limits_ns: list[int] = []  # the cameras' deadlines in it
        self._steady_ns = steady_ns
        self._schedule = EarliestDeadlineFirst(len(cameras))
        self._seen_ns: dict[int, int] = {}  # when a camera's waiting image was first seen
        self._transport_ns = [0] * len(cameras)  # age of the last image when it arrived
        self._idle_since_ns = 0
        self._is_stopping = False

    def begin(self) -> None:
        """Note that images are waited for from now on."""
        self._is_stopping = False
        now_ns = self._steady_ns()
        for camera in self._cameras:
            camera.stream.begin(now_ns)

    def stop(self) -> None:
        """Let ``run`` return after the frame at hand; called by any thread."""
        self._is_stopping = True
        self._images.wake()

    def run(
        self,
        classifier: FrameClassifier,
        pass_on: Callable[[FrameAtHand, Exception], bool],
        frame: FrameAtHand | None = None,
    ) -> bool:
        """Classify until ``stop``.

        Args:
            classifier: the engine's, on the engine's thread.
            pass_on: called with a frame that an engine has failed on; returns whether another
                engine goes on with it, and with all that follow.
            frame: the one to begin with.

        Returns:
            True once stopped; False where another engine goes on.

        """
        while True:
            if frame is not None and not self._finish(frame, classifier, pass_on):
                return False
            if self._is_stopping:
                return True
            frame = self._next_frame()

    def report(self, error: Exception) -> None:
        """Log what went wrong beside the frames."""
        _do_safely(self._cameras[0].report, error)

    def lose(self, frame: FrameAtHand, error: Exception) -> None:
        """Count and report a claimed frame that no engine has classified."""
        self._drop(self._cameras[frame.camera], frame.trace, error)
        self._close(frame)

    def _next_frame(self) -> FrameAtHand | None:
        """Wait for an image and read it; None where there is none to classify."""
        try:
            self._idle_since_ns = self._steady_ns()
            ready = self._images.wait()
            if not ready or self._is_stopping:
                return None
            return self._take(self._choose(ready), ready)
        except Exception as error:  # noqa: BLE001 - the middleware failed, or a bug: the node lives on
            self.report(error)
            time.sleep(AFTER_A_BUG_S)
            return None

    def _choose(self, ready: Sequence[int]) -> int:
        """Choose the camera whose image must be out first; its age is known once it is taken."""
        now_ns = self._steady_ns()
        if len(ready) == 1:
            return ready[0]
        self._read_config()
        return self._schedule.choose(
            {
                camera: self._limits_ns[camera]
                - self._transport_ns[camera]
                - (now_ns - self._seen_ns.setdefault(camera, now_ns))
                for camera in ready
            }
        )

    def _read_config(self) -> NodeConfig:
        """Return the configuration of this moment; only a new one is asked for its deadlines."""
        config = self._get_config()
        if config is not self._config:
            self._config = config
            self._limits_ns = [
                config.latency.deadline_ns(index) for index in range(len(self._cameras))
            ]
        return config

    def _take(self, index: int, ready: Sequence[int]) -> FrameAtHand | None:
        self._seen_ns.pop(index, None)
        arrival = self._images.take(index)
        if arrival is None:
            return None
        camera, config = self._cameras[index], self._read_config()
        self._note_arrival(camera, arrival)
        if not camera.limit.admits(arrival.arrived_ns, config.cameras.max_rate_hz):
            camera.counters.keep_out()
            return None
        trace = FrameTrace()
        try:
            return self._read(index, arrival, config, trace, ready)
        except Exception as error:  # noqa: BLE001 - a frame error or a bug: reported, counted
            self._drop(camera, trace, error)
            self._look_back(camera, trace, arrival.message)
            return None

    def _note_arrival(self, camera: Camera, arrival: Arrival) -> None:
        camera.counters.receive()
        gaps = camera.counters.gaps
        gaps.follow(arrival.number)
        # An image that came while the loop was busy may have replaced others.
        is_at_least = arrival.number is None and arrival.arrived_ns < self._idle_since_ns
        camera.stream.arrive(arrival.arrived_ns, gaps.replaced, is_at_least=is_at_least)

    def _read(
        self,
        index: int,
        arrival: Arrival,
        config: NodeConfig,
        trace: FrameTrace,
        ready: Sequence[int],
    ) -> FrameAtHand:
        """Read an image whose result will probably be in time, or raise why not."""
        camera, begin_ns = self._cameras[index], self._steady_ns()
        limit_ns = self._limits_ns[index]
        trace.wait_ns = begin_ns - arrival.arrived_ns
        image = camera.open(arrival.message)
        trace.stamp_ns, trace.frame_id = image.stamp_ns, image.frame_id
        trace.age_ns = camera.deadline.age_ns(image.stamp_ns, arrival.arrived_ns)
        if trace.age_ns is not None:
            self._transport_ns[index] = trace.age_ns - trace.wait_ns
        camera.deadline.admit(trace.age_ns, limit_ns)
        self._schedule.note_inference(index, [other for other in ready if other != index])
        frame = image.read()
        trace.read_ns = self._steady_ns() - begin_ns
        if trace.read_ns > DECODED_NS:
            trace.age_ns = camera.deadline.age_ns(image.stamp_ns, arrival.arrived_ns)
            camera.deadline.require_decoded(trace.age_ns, limit_ns, trace.read_ns)
        return FrameAtHand(
            index, arrival.message, frame, config, limit_ns, arrival.arrived_ns, begin_ns, trace
        )

    def _finish(
        self,
        frame: FrameAtHand,
        classifier: FrameClassifier,
        pass_on: Callable[[FrameAtHand, Exception], bool],
    ) -> bool:
        """Classify and publish a frame; return False if it was taken away, or passed on."""
        self.at_hand = frame
        self.turns += 1
        try:
            prediction = classifier.run(
                frame.frame,
                top_k=frame.config.output.top_k,
                threshold=frame.config.output.threshold,
            )
        except Exception as error:  # noqa: BLE001 - the engine's, the frame's, or a bug
            if not frame.claim() or pass_on(frame, error):
                return False
            self.lose(frame, error)
            return True
        if not frame.claim():
            return False
        self._publish(frame, prediction)
        self._close(frame)
        return True

    def _publish(self, frame: FrameAtHand, prediction: Prediction) -> None:
        camera, trace = self._cameras[frame.camera], frame.trace
        self.infer_ns = prediction.times.infer_ns
        try:
            self._send(camera, frame, prediction)
        except Exception as error:  # noqa: BLE001 - late, the middleware failed, or a bug
            self._drop(camera, trace, error)
            return
        trace.outcome = "published"
        camera.counters.publish()
        try:
            camera.show(frame.frame, prediction)
        except Exception as error:  # noqa: BLE001 - the classification is out; this is extra
            _do_safely(camera.report, error)

    def _send(self, camera: Camera, frame: FrameAtHand, prediction: Prediction) -> None:
        """Publish a result that is in time, or raise why not."""
        trace, deadline, begin_ns = frame.trace, camera.deadline, self._steady_ns()
        trace.preprocess_ns, trace.infer_ns, trace.postprocess_ns = prediction.times
        result = camera.compose(prediction, frame.config.output)
        trace.age_ns = deadline.age_ns(trace.stamp_ns, frame.arrived_ns)
        try:
            deadline.require(trace.age_ns, frame.limit_ns)
            camera.send(result)
        finally:  # what came too late teaches how long it takes
            end_ns = self._steady_ns()
            image = frame.frame
            size = (image.width, image.height, image.encoding)
            deadline.remaining.learn(end_ns - frame.begin_ns, size)
            trace.publish_ns = end_ns - begin_ns
        if trace.age_ns is not None:
            camera.ages.add(trace.age_ns)

    def _close(self, frame: FrameAtHand) -> None:
        self.at_hand = None
        self._look_back(self._cameras[frame.camera], frame.trace, frame.message)

    def _drop(self, camera: Camera, trace: FrameTrace, error: Exception) -> None:
        """Count and report a frame that leads to no result."""
        if isinstance(error, FrameError):
            trace.outcome = error.kind
            camera.counters.drop(error.kind)
            if not isinstance(error, (StaleFrame, LateFrame, SlowDecoding)):
                camera.stream.unusable = str(error)
        else:
            trace.outcome = "failed"
            camera.counters.fail()
        _do_safely(camera.report, error)

    def _look_back(self, camera: Camera, trace: FrameTrace, message: Message) -> None:
        """Do what no result waits for."""
        _do_safely(camera.record, trace)
        _do_safely(camera.stream.look, message)


class EarliestDeadlineFirst:
    """Chooses among cameras that have a frame waiting.

    Earliest deadline first alone starves a camera with a long deadline under overload, because its
    waiting frame is replaced by newer ones. So a camera that was passed over as often as there
    are cameras is next: of ``n`` cameras that always have a frame, each gets at least one
    inference in ``2 n``.
    """

    def __init__(self, cameras: int) -> None:
        self._passed_over = [0] * cameras

    def choose(self, time_left_ns: Mapping[int, float]) -> int:
        """Return the next camera, given the time that each waiting frame has left."""
        longest = max(time_left_ns, key=self._passed_over.__getitem__)
        if self._passed_over[longest] >= len(self._passed_over):
            return longest
        return min(time_left_ns, key=time_left_ns.__getitem__)

    def note_inference(self, camera: int, waiting: Iterable[int]) -> None:
        """Note that a frame of ``camera`` is classified while those of ``waiting`` wait."""
        for other in waiting:
            self._passed_over[other] += 1
        self._passed_over[camera] = 0


def _do_safely(call: Callable[[Any], None], argument: object) -> None:
    """Call what only informs: if even that fails, the next frame is worth more."""
    with suppress(Exception):
        call(argument)
