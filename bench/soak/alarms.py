# SPDX-License-Identifier: Apache-2.0
"""Judge /diagnostics: does it name each fault of the camera while it lasts, and no other?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault, FaultSchedule, Interval
from perception_node.bench.soak.limits import Row

if TYPE_CHECKING:
    from perception_node.bench.soak.record import Alarm, SoakRecord

VISIBLE_NS = 6 * SECOND_NS // 5  # a shorter fault may end before /diagnostics says so
NOTICED_NS = SECOND_NS  # after its end
# Where /diagnostics names a fault, and in which words. A burst and a few lost frames are no fault
# of the node's input: the newest frame wins.
NAMED = {
    Fault.OFF: ("input", "Timeout"),
    Fault.STUCK: ("picture", "stuck"),
    Fault.GARBAGE: ("input", "unusable"),
    Fault.WRONG: ("input", "unusable"),
    Fault.CORRUPT: ("input", "unusable"),
    Fault.SLOW: ("rate", "images per second"),
    Fault.DELAYED: ("deadline", "missed the deadline"),
}
NEVER = ("engine", "inference", "process")  # no camera is the cause of these
BUSY = ("rate", "deadline", "connection", "Timeout")  # a busy machine may be, at any time
STARTING = ("configuring: ", "the node is configuring")  # until its model is loaded
WELL_AT_END = (*NEVER, "input", "picture")


def judge_alarms(schedule: FaultSchedule, record: SoakRecord) -> list[Row]:
    """Judge whether /diagnostics named what was wrong, and nothing else."""
    named: set[Interval] = set()
    wrong: set[str] = set()
    for alarm in record.alarms:
        causes = [i for i in _near(schedule, alarm.time_ns) if _names(alarm, i.fault)]
        named.update(causes)
        is_excused = alarm.task in BUSY or alarm.message.startswith((*BUSY, *STARTING))
        if not causes and not is_excused:
            wrong.add(f"{alarm.task}: {alarm.message}")
    visible = [
        interval
        for interval in schedule.intervals
        if interval.fault in NAMED and interval.end_ns - interval.begin_ns >= VISIBLE_NS
    ]
    missed = [str(interval.fault) for interval in visible if interval not in named]
    found = f"{len(visible) - len(missed)} of {len(visible)}"
    found += f"; not: {', '.join(missed)}" if missed else ""
    ill = [task for task in WELL_AT_END if record.last_levels.get(task) != 0]
    return [
        Row("faults that /diagnostics named", found, "all", not missed),
        Row("other alarms", "; ".join(sorted(wrong)) or "none", "none", not wrong),
        Row("alarms at the end", ", ".join(ill) or "none", "none", not ill),
    ]


def _near(schedule: FaultSchedule, time_ns: int) -> list[Interval]:
    """Return the interval of a moment, and the one before if that has just ended."""
    now = schedule.at(time_ns)
    if time_ns - now.begin_ns > NOTICED_NS:
        return [now]
    return [now, schedule.at(now.begin_ns - 1)]


def _names(alarm: Alarm, fault: Fault) -> bool:
    task, words = NAMED.get(fault, ("", ""))
    return alarm.task == task and words in alarm.message
