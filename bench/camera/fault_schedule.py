# SPDX-License-Identifier: Apache-2.0
"""Which fault a camera has when: the same seed gives the same schedule.

The words are those of PX4's failure injection (``failure camera <type>``), and four more that
cameras know: ``burst``, ``corrupt``, ``jitter`` and ``clock_step``. Times are nanoseconds on
whatever clock the caller has.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND_NS = 1_000_000_000
ROUND_NS = 120 * SECOND_NS  # each fault once, in another order each time
LONGEST_EDGE_NS = 10 * SECOND_NS  # without a fault, at both ends
LONGEST_FAULT_NS = 2_880_000_000  # on average 2 % of a round
FAULT_SHARE = 0.4  # of the time from one fault to the next, at most


class Fault(str, Enum):
    """What can be wrong with a camera."""

    OK = "ok"
    OFF = "off"  # no frame
    STUCK = "stuck"  # the same picture with new stamps
    GARBAGE = "garbage"  # noise behind the stamp
    WRONG = "wrong"  # a header that its data contradicts, or an unknown encoding
    SLOW = "slow"  # one frame in six
    DELAYED = "delayed"  # each frame half a second later
    INTERMITTENT = "intermittent"  # three frames in ten are lost
    BURST = "burst"  # ten times as many frames
    CORRUPT = "corrupt"  # a JPEG or PNG whose end is missing
    JITTER = "jitter"  # each frame later by a part of its period, with the stamp of its time
    CLOCK_STEP = "clock_step"  # the stamps are an hour ahead, or behind

    def __str__(self) -> str:
        """Return the word."""
        return self.value


_EVERY_TRANSPORT = (
    Fault.OFF,
    Fault.STUCK,
    Fault.GARBAGE,
    Fault.WRONG,
    Fault.SLOW,
    Fault.DELAYED,
    Fault.INTERMITTENT,
    Fault.BURST,
)
# What a soak plays; its limits are about these. ``play_out`` knows every word.
FAULTS = {"raw": _EVERY_TRANSPORT, "compressed": (*_EVERY_TRANSPORT, Fault.CORRUPT)}


class Interval(NamedTuple):
    """A time with one fault, or with none: from ``begin_ns`` to before ``end_ns``."""

    fault: Fault
    begin_ns: int
    end_ns: int


class FaultSchedule:
    """Which fault is on when.

    Attributes:
        intervals: without gaps, in order; the first and the last are ``ok``.

    """

    def __init__(self, begin_ns: int, end_ns: int, faults: Iterable[Interval] = ()) -> None:
        """Fill the gaps between ``faults``, which are in order, with ``ok``."""
        intervals, here_ns = [], begin_ns
        for interval in faults:
            intervals += [Interval(Fault.OK, here_ns, interval.begin_ns), interval]
            here_ns = interval.end_ns
        self.intervals = (*intervals, Interval(Fault.OK, here_ns, end_ns))
        self._begins = [interval.begin_ns for interval in self.intervals]

    def at(self, time_ns: int) -> Interval:
        """Return the interval of a moment; before the first and after the last it is those."""
        return self.intervals[max(0, bisect_right(self._begins, time_ns) - 1)]


def make_schedule(
    seed: int, begin_ns: int, duration_ns: int, faults: Sequence[Fault]
) -> FaultSchedule:
    """Spread ``faults`` over a time: all of them in each round of about 120 s, in random order.

    At least one round, however short that makes the faults; ``ok`` at both ends and in between.
    """
    source = random.Random(seed)
    edge_ns = min(duration_ns // 10, LONGEST_EDGE_NS)
    usable_ns = duration_ns - 2 * edge_ns
    rounds = max(1, round(usable_ns / ROUND_NS))
    slot_ns = usable_ns // (rounds * len(faults))
    longest_ns = min(LONGEST_FAULT_NS, int(FAULT_SHARE * slot_ns))
    order = [f for _ in range(rounds) for f in source.sample(faults, len(faults))]
    intervals = []
    for number, fault in enumerate(order):
        length_ns = source.randint(longest_ns * 2 // 3, longest_ns)
        earliest_ns = begin_ns + edge_ns + number * slot_ns
        # The second half of each slot is ok, so that the node has time to recover.
        start_ns = source.randint(earliest_ns, earliest_ns + slot_ns // 2 - length_ns)
        intervals.append(Interval(fault, start_ns, start_ns + length_ns))
    return FaultSchedule(begin_ns, begin_ns + duration_ns, intervals)
