# SPDX-License-Identifier: Apache-2.0
"""A camera that fails on schedule: what becomes of each of its frames, as serialized messages.

All times are nanoseconds on the clock of the stamps; nothing here looks at one. The same seed
gives the same messages.
"""

from __future__ import annotations

import heapq
import random
import struct
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, FaultSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perception_node.bench.camera.fault_schedule import Interval

STAMP_BEGIN, STAMP_END = 4, 12  # of a serialized message: seconds and nanoseconds
SLOW_DOWN = 6
DELAY_NS = 500_000_000
LOST_SHARE = 0.3
LARGEST_JITTER = 0.8  # of a period, so that frames stay in their order
CLOCK_STEP_NS = 3_600_000_000_000
BURST_FACTOR = 10
GARBAGE_BYTES = 4096


class Emission(NamedTuple):
    """A message and when it is due; ``fault`` is what has happened to it."""

    send_ns: int
    stamp_ns: int
    fault: Fault
    message: bytes


class FaultyCamera:
    """Does to each frame what the schedule says.

    Attributes:
        schedule: which fault is on when.
        period_ns: from one frame to the next.

    """

    def __init__(self, schedule: FaultSchedule, period_ns: int, transport: str, seed: int) -> None:
        """Prepare a camera of one frame per ``period_ns``; ``transport`` as for ImageReader."""
        self.schedule = schedule
        self.period_ns = period_ns
        self._transport = transport
        self._seed = seed
        self._last = b""  # the last good picture

    def emit(self, message: bytes, time_ns: int) -> list[Emission]:
        """Return what becomes of the frame that is due, and stamped, at ``time_ns``.

        Frames come in order. What would be sent after the end of the fault is lost: the next
        interval sees nothing of this one.
        """
        interval = self.schedule.at(time_ns)
        fault = interval.fault
        source = random.Random(self._seed ^ time_ns)
        number = (time_ns - interval.begin_ns) // self.period_ns
        if fault is not Fault.STUCK or not self._last:
            self._last = message
        spoilt = self._spoil(fault, number, message, source)
        emissions = []
        for delay_ns in self._delays_ns(fault, number, source):
            send_ns = time_ns + delay_ns
            stamp_ns = self._stamp_ns(interval, time_ns, send_ns)
            if send_ns < interval.end_ns:
                emissions.append(Emission(send_ns, stamp_ns, fault, with_stamp(spoilt, stamp_ns)))
        return emissions

    def _stamp_ns(self, interval: Interval, time_ns: int, send_ns: int) -> int:
        """Return the stamp of a message that is due at ``time_ns`` and sent at ``send_ns``."""
        if interval.fault in {Fault.DELAYED, Fault.JITTER}:
            return time_ns
        if interval.fault is Fault.CLOCK_STEP:
            source = random.Random(self._seed ^ interval.begin_ns)
            return send_ns + source.choice((-CLOCK_STEP_NS, CLOCK_STEP_NS))
        return send_ns

    def _delays_ns(self, fault: Fault, number: int, source: random.Random) -> list[int]:
        """Return when a frame is sent, counted from when it is due; once, often, or never."""
        if fault is Fault.DELAYED:
            return [DELAY_NS]
        if fault is Fault.JITTER:
            return [int(source.uniform(0.0, LARGEST_JITTER) * self.period_ns)]
        if fault is Fault.BURST:
            return [index * self.period_ns // BURST_FACTOR for index in range(BURST_FACTOR)]
        is_lost = (
            fault is Fault.OFF
            or (fault is Fault.SLOW and number % SLOW_DOWN > 0)
            or (fault is Fault.INTERMITTENT and source.random() < LOST_SHARE)
        )
        return [] if is_lost else [0]

    def _spoil(self, fault: Fault, number: int, message: bytes, source: random.Random) -> bytes:
        """Return the bytes that the fault leaves of a message."""
        if fault is Fault.STUCK:
            return self._last
        if fault is Fault.GARBAGE:
            return message[:STAMP_END] + source.randbytes(GARBAGE_BYTES)
        if fault is Fault.CORRUPT:
            kept = int(len(message) * source.uniform(0.5, 0.9))
            return message[:kept] + bytes(len(message) - kept)
        if fault is not Fault.WRONG:
            return message
        if self._transport == "compressed":
            return _with_other_signature(message)
        return _with_other_encoding(message) if number % 2 else _with_double_height(message)


def play_out(camera: FaultyCamera, pictures: Sequence[bytes]) -> Iterator[Emission]:
    """Yield all messages of a camera that shows ``pictures`` in turn, in the order of sending."""
    intervals, period_ns = camera.schedule.intervals, camera.period_ns
    times_ns = range(intervals[0].begin_ns, intervals[-1].end_ns, period_ns)
    waiting: list[Emission] = []
    for time_ns, picture in zip(times_ns, cycle(pictures), strict=False):
        for emission in camera.emit(picture, time_ns):
            heapq.heappush(waiting, emission)
        while waiting and waiting[0].send_ns < time_ns + period_ns:
            yield heapq.heappop(waiting)
    yield from sorted(waiting)


def with_stamp(message: bytes, stamp_ns: int) -> bytes:
    """Return a serialized little-endian message with another stamp."""
    return _put(message, STAMP_BEGIN, struct.pack("<iI", *divmod(stamp_ns, SECOND_NS)))


def _with_double_height(message: bytes) -> bytes:
    """Let an Image claim twice its height: the data is too short for it."""
    position = _skip_string(message, STAMP_END)
    (height,) = struct.unpack_from("<I", message, position)
    return _put(message, position, struct.pack("<I", 2 * height))


def _with_other_encoding(message: bytes) -> bytes:
    """Let an Image have an encoding that nobody knows."""
    # behind height, width and the length of the encoding
    return _put(message, _skip_string(message, STAMP_END) + 12, b"?")


def _with_other_signature(message: bytes) -> bytes:
    """Let the data of a CompressedImage begin like a GIF."""
    position = _skip_string(message, _skip_string(message, STAMP_END)) + 4  # length of the data
    return _put(message, position, b"GIF89a")


def _put(message: bytes, position: int, content: bytes) -> bytes:
    return message[:position] + content + message[position + len(content) :]


def _skip_string(message: bytes, position: int) -> int:
    """Return where the four-byte field after a string begins."""
    (size,) = struct.unpack_from("<I", message, position)
    end: int = position + 4 + size
    return end + -end % 4
