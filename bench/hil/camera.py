# SPDX-License-Identifier: Apache-2.0
"""The host's camera: plays in real time on a thread of its own, and notes each frame."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from perception_node.bench.camera.camera_faults import FaultyCamera, play_out, with_stamp
from perception_node.bench.camera.fault_schedule import Fault, Interval
from perception_node.bench.camera.load_sources import TYPES
from perception_node.bench.hil.recorder import SentFrame
from perception_node.ros.compat import RCLError
from perception_node.wire.bags import BagMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perception_node.bench.camera.camera_faults import Emission
    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario
    from perception_node.rehearsal.listener import Write
    from perception_node.rehearsal.player import Player

SEED = 1  # of what is random within a fault
LEAD_NS = 100_000_000  # from the start of the thread to the first frame
LATEST_NS = 50_000_000  # a frame that this host cannot send in time is not sent
CLOCK_DRIFT_NS = 1_000_000  # the stamps follow the system's clock where it is set or slewed


class Playback:
    """Plays a scenario's camera once.

    Stamps are of the system's clock at the moment a frame is due, as a driver's are; everything
    in the record is on the steady clock.
    """

    def __init__(
        self,
        scenario: Scenario,
        pictures: Sequence[bytes],
        player: Player,
        record: HilRecord,
        write: Write,
    ) -> None:
        """Prepare; ``write`` gets each message after it was published, as a bag wants it."""
        plan = scenario.camera
        self.stop = threading.Event()
        self._record, self._write = record, write
        self._topic, self._type = plan.full_topic, TYPES[plan.transport]
        self._pictures = pictures
        self._begin_ns = time.time_ns() + LEAD_NS
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        schedule = scenario.schedule(self._begin_ns)
        self._camera = FaultyCamera(schedule, plan.period_ns, plan.transport, SEED)
        record.begin_ns = self._to_steady(self._begin_ns)
        record.end_ns = self._to_steady(schedule.intervals[-1].end_ns)
        record.faults = [
            Interval(i.fault, self._to_steady(i.begin_ns), self._to_steady(i.end_ns))
            for i in schedule.intervals
            if i.fault is not Fault.OK
        ]
        self._sending: SentFrame | None = None
        self._returned_ns = 0  # from the last publish call
        self.thread = threading.Thread(
            target=self._play,
            args=(player,),
            name="camera",
            daemon=True,
        )

    def end(self) -> None:
        """Stop playing."""
        self.stop.set()
        if self.thread.is_alive():
            self.thread.join()

    def _play(self, player: Player) -> None:
        messages = self._messages()
        while True:
            with suppress(RCLError):  # it did not take a frame in time, which gets no answer
                player.play(messages, 1.0, self.stop, self._before_publish)
                return

    def _messages(self) -> Iterator[BagMessage]:
        """Yield each message when it is due, so that the player has nothing to wait for."""
        for emission in play_out(self._camera, self._pictures):
            due_ns = self._to_steady(emission.send_ns)
            if self.stop.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
                return
            if time.monotonic_ns() - due_ns > LATEST_NS:
                self._leave_out(due_ns)
                continue
            frame, message = self._prepare(emission)
            self._sending = frame
            yield BagMessage(self._topic, self._type, emission.send_ns, message)
            self._returned_ns = time.monotonic_ns()
            self._write(self._topic, self._type, message, time.time_ns())

    def _leave_out(self, due_ns: int) -> None:
        if due_ns < self._returned_ns:
            self._record.held_back.append(due_ns)
        else:
            self._record.skipped += 1

    def _before_publish(self, _message: BagMessage) -> None:
        frame = self._sending
        if frame is not None:
            self._record.sent.append(frame._replace(sent_ns=time.monotonic_ns()))

    def _prepare(self, emission: Emission) -> tuple[SentFrame, bytes]:
        stamp_ns, message = emission.stamp_ns, emission.message
        drift_ns = time.time_ns() - time.monotonic_ns() - self._offset_ns
        if abs(drift_ns) > CLOCK_DRIFT_NS:
            stamp_ns += drift_ns
            message = with_stamp(message, stamp_ns)
        is_stepped = emission.fault is Fault.CLOCK_STEP
        due_ns = self._to_steady(emission.send_ns if is_stepped else emission.stamp_ns)
        return SentFrame(stamp_ns, due_ns, 0, emission.fault, self._picture(emission)), message

    def _picture(self, emission: Emission) -> int:
        """Return the number of the picture that a message shows."""
        period_ns, time_ns = self._camera.period_ns, emission.stamp_ns
        interval = self._camera.schedule.at(emission.send_ns)
        if emission.fault is Fault.STUCK:  # it shows what was due last before
            time_ns = max(self._begin_ns, interval.begin_ns - 1)
        if emission.fault is Fault.CLOCK_STEP:
            time_ns = emission.send_ns
        return (time_ns - self._begin_ns) // period_ns % len(self._pictures)

    def _to_steady(self, time_ns: int) -> int:
        return time_ns - self._offset_ns
