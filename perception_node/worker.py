# SPDX-License-Identifier: Apache-2.0
"""The one thread that reads, classifies and publishes frames, of one camera or several.

The thread that receives messages only leaves them in the mailbox, so services and diagnostics
answer while a frame is worked on, and a frame that is superseded has cost next to nothing.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perception_node.deadline import Arrival
from perception_node.errors import FrameError
from perception_node.latency import FrameTrace
from perception_node.mailbox import Mailboxes, Taken
from perception_node.realtime import name_thread
from perception_node.schedule import EarliestDeadlineFirst

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perception_node.camera import Camera
    from perception_node.config import NodeConfig
    from perception_node.frame import Frame
    from perception_node.pipeline import Prediction


class FrameWorker:
    """Works on the newest message of each camera until it is stopped."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        get_config: Callable[[], NodeConfig],
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare; ``get_config`` is asked once per frame, so that no result mixes two."""
        self._cameras = cameras
        self._get_config = get_config
        self._steady_ns = steady_ns
        self._mailboxes: Mailboxes[Arrival] = Mailboxes()
        self._schedule = EarliestDeadlineFirst(len(cameras))
        self._thread = threading.Thread(target=self._run, name="perception-worker", daemon=True)

    @property
    def native_ids(self) -> tuple[int, ...]:
        """The operating system's number of the thread; empty before it is started."""
        return () if self._thread.native_id is None else (self._thread.native_id,)

    def start(self) -> None:
        """Start the thread."""
        now_ns = self._steady_ns()
        for camera in self._cameras:
            camera.stream.begin(now_ns)
        self._thread.start()

    def submit(self, index: int, message: Any) -> None:  # noqa: ANN401 - see Arrival
        """Leave an image for the thread; called by the receiving thread."""
        camera, now_ns = self._cameras[index], self._steady_ns()
        camera.counters.receive()
        camera.stream.arrive(now_ns)
        if camera.limit.admits(now_ns, self._get_config().max_rate_hz):
            camera.counters.supersede(self._mailboxes.put(index, Arrival(message, now_ns)))
        else:
            camera.counters.supersede(1)

    def stop(self, timeout_s: float) -> bool:
        """Finish the current frame, drop the waiting ones; return False if that took too long."""
        for index in self._mailboxes.close():
            self._cameras[index].counters.supersede(1)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        name_thread("perc-worker")
        while (taken := self._mailboxes.take(self._choose)) is not None:
            self._work(taken)

    def _choose(self, arrivals: Mapping[int, Arrival]) -> int:
        """Choose the camera whose frame must be out first."""
        if len(arrivals) == 1:
            return min(arrivals)
        config = self._get_config()
        return self._schedule.choose(
            {
                index: self._time_left_ns(index, arrival, config)
                for index, arrival in arrivals.items()
            }
        )

    def _time_left_ns(self, index: int, arrival: Arrival, config: NodeConfig) -> float:
        camera = self._cameras[index]
        try:
            header = camera.handler.read_header(arrival.message)
            age_ns = camera.deadline.age_ns(header.stamp_ns, arrival.arrived_ns)
        except Exception:  # noqa: BLE001 - _process() meets it again, and counts it
            age_ns = None
        # What has no age will be dropped, so its turn costs nothing.
        return -math.inf if age_ns is None else config.deadline_ns(index) - age_ns

    def _work(self, taken: Taken[Arrival]) -> None:
        camera, trace = self._cameras[taken.slot], FrameTrace()
        try:
            frame, prediction = self._process(taken, camera, trace)
        except FrameError as error:
            trace.outcome = error.kind
            camera.counters.drop(error.kind)
            _do_safely(camera.handler.report, error)
        except Exception as error:  # noqa: BLE001 - an engine failure or a bug: reported, counted
            trace.outcome = "failed"
            camera.counters.fail()
            _do_safely(camera.handler.report, error)
        else:
            trace.outcome = "published"
            camera.counters.publish()
            self._after_publish(camera, frame, prediction)
        _do_safely(camera.handler.record, trace)
        _do_safely(camera.stream.look, taken.item.message)  # last: no frame waits for it

    def _process(
        self, taken: Taken[Arrival], camera: Camera, trace: FrameTrace
    ) -> tuple[Frame, Prediction]:
        """Take one frame from the mailbox to the subscribers, or raise why not."""
        message, arrived_ns = taken.item
        config, handler, deadline = self._get_config(), camera.handler, camera.deadline
        limit_ns = config.deadline_ns(taken.slot)
        begin_ns = self._steady_ns()
        trace.wait_ns = begin_ns - arrived_ns
        header = handler.read_header(message)
        trace.stamp_ns, trace.frame_id = header.stamp_ns, header.frame_id
        trace.age_ns = deadline.age_ns(header.stamp_ns, arrived_ns)
        deadline.admit(trace.age_ns, limit_ns)
        self._schedule.note_inference(taken.slot, taken.waiting)

        frame = handler.read(message)
        read_ns = self._steady_ns()
        trace.read_ns = read_ns - begin_ns
        prediction = handler.classify(frame, config)
        classified_ns = self._steady_ns()
        trace.preprocess_ns, trace.infer_ns, trace.postprocess_ns = prediction.times
        trace.handover_ns = classified_ns - read_ns - sum(prediction.times)
        result = handler.compose(prediction, config)
        trace.age_ns = deadline.age_ns(header.stamp_ns, arrived_ns)
        try:
            deadline.require(trace.age_ns, limit_ns)
            handler.send(result)
        finally:  # what came too late teaches how long it takes
            end_ns = self._steady_ns()
            size = (frame.width, frame.height, frame.encoding)
            deadline.remaining.learn(end_ns - begin_ns, size)
            trace.publish_ns = end_ns - classified_ns
        if trace.age_ns is not None:
            camera.ages.add(trace.age_ns)
        return frame, prediction

    def _after_publish(self, camera: Camera, frame: Frame, prediction: Prediction) -> None:
        try:
            camera.handler.after_publish(frame, prediction)
        except Exception as error:  # noqa: BLE001 - the classification is out; this is extra
            _do_safely(camera.handler.report, error)


def _do_safely(call: Callable[[Any], None], argument: object) -> None:
    """Call what only informs: if even that fails, the next frame is worth more."""
    with suppress(Exception):
        call(argument)
