# SPDX-License-Identifier: Apache-2.0
"""Each fault does what its word says, the same with the same seed, and only while it lasts."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.bench.camera.camera_faults import (
    BURST_FACTOR,
    CLOCK_STEP_NS,
    DELAY_NS,
    LARGEST_JITTER,
    LOST_SHARE,
    SLOW_DOWN,
    FaultyCamera,
    play_out,
    with_stamp,
)
from perception_node.bench.camera.fault_schedule import (
    FAULTS,
    LONGEST_EDGE_NS,
    ROUND_NS,
    SECOND_NS,
    Fault,
    FaultSchedule,
    Interval,
    make_schedule,
)
from perception_node.errors import FrameError
from perception_node.wire.images import CdrReader, ImageReader, read_header
from tests.builders import START_NS, compressed_message, encode, image_message, smooth

PERIOD_NS = SECOND_NS // 30
BEGIN_NS, END_NS = START_NS + 2 * SECOND_NS, START_NS + 5 * SECOND_NS
DURATION_NS = 8 * SECOND_NS
PICTURES = {
    "raw": [image_message(smooth(seed=seed)) for seed in range(3)],
    "compressed": [compressed_message(encode(smooth(seed=seed))) for seed in range(3)],
}
KINDS = {
    (Fault.GARBAGE, "raw"): {"message"},
    (Fault.GARBAGE, "compressed"): {"message"},
    (Fault.WRONG, "raw"): {"layout", "encoding"},
    (Fault.WRONG, "compressed"): {"codec"},
    (Fault.CORRUPT, "compressed"): {"codec"},
}
EVERY_FAULT = {t: (*faults, Fault.JITTER, Fault.CLOCK_STEP) for t, faults in FAULTS.items()}
every_fault = pytest.mark.parametrize(
    ("fault", "transport"), [(f, t) for t, faults in EVERY_FAULT.items() for f in faults]
)
seeds = st.integers(0, 2**32)
durations = st.integers(10 * SECOND_NS, 1000 * SECOND_NS)
transports = st.sampled_from(list(FAULTS))


def camera_with(fault, transport="raw", seed=1):
    """A camera of 8 s that fails from its second to its fifth second."""
    interval = Interval(fault, BEGIN_NS, END_NS)
    schedule = FaultSchedule(START_NS, START_NS + DURATION_NS, [interval])
    return FaultyCamera(schedule, PERIOD_NS, transport, seed)


def play(fault, transport="raw", seed=1):
    return list(play_out(camera_with(fault, transport, seed), PICTURES[transport]))


def during(emissions):
    return [e for e in emissions if BEGIN_NS <= e.send_ns < END_NS]


def kind_of(message, transport):
    """Return why the node refuses a message; empty if it reads it."""
    try:
        ImageReader(transport, 1 << 24, 1 << 24).read(message)
    except FrameError as error:
        return error.kind
    return ""


# The schedule


@given(seeds, durations, transports)
def test_a_seed_is_a_schedule(seed, duration_ns, transport):
    one, same = (make_schedule(seed, START_NS, duration_ns, FAULTS[transport]) for _ in range(2))
    assert one.intervals == same.intervals


def test_another_seed_is_another_schedule():
    one, other = (make_schedule(s, START_NS, DURATION_NS, FAULTS["raw"]) for s in (1, 2))
    assert [i.fault for i in one.intervals] != [i.fault for i in other.intervals]


@given(seeds, durations, transports)
def test_a_schedule_is_whole_and_every_fault_occurs_equally_often(seed, duration_ns, transport):
    intervals = make_schedule(seed, START_NS, duration_ns, FAULTS[transport]).intervals
    assert (intervals[0].begin_ns, intervals[-1].end_ns) == (START_NS, START_NS + duration_ns)
    assert all(before.end_ns == after.begin_ns for before, after in pairwise(intervals))
    assert all(interval.end_ns > interval.begin_ns for interval in intervals)
    assert {i.fault for i in intervals[::2]} == {Fault.OK}
    assert {i.fault for i in intervals[1::2]} == set(FAULTS[transport])
    assert len(intervals) // 2 % len(FAULTS[transport]) == 0
    edge_ns = min(duration_ns // 10, LONGEST_EDGE_NS)
    assert min(i.end_ns - i.begin_ns for i in (intervals[0], intervals[-1])) >= edge_ns


@given(seeds)
def test_in_an_hour_each_fault_takes_2_percent(seed):
    hour_ns = 30 * ROUND_NS
    intervals = make_schedule(seed, START_NS, hour_ns, FAULTS["raw"]).intervals
    for fault in FAULTS["raw"]:
        share = sum(i.end_ns - i.begin_ns for i in intervals if i.fault is fault) / hour_ns
        assert 0.014 < share < 0.025


@given(seeds, durations, st.integers(-SECOND_NS, 1001 * SECOND_NS))
def test_every_moment_has_its_interval(seed, duration_ns, offset_ns):
    schedule = make_schedule(seed, START_NS, duration_ns, FAULTS["raw"])
    time_ns = START_NS + offset_ns
    found = schedule.at(time_ns)
    if not 0 <= offset_ns < duration_ns:
        assert found is schedule.intervals[0 if offset_ns < 0 else -1]
    else:
        assert found.begin_ns <= time_ns < found.end_ns


# What holds for all faults


@given(seeds, st.sampled_from(EVERY_FAULT["compressed"]), st.integers(1, 50))
def test_a_seed_is_a_stream(seed, fault, frames):
    def begin():
        camera = camera_with(fault, "compressed", seed)
        times_ns = [BEGIN_NS + number * PERIOD_NS for number in range(frames)]
        return [camera.emit(PICTURES["compressed"][0], time_ns) for time_ns in times_ns]

    assert begin() == begin()


@every_fault
def test_no_fault_leaks(fault, transport):
    emissions = play(fault, transport)
    ok = [e for e in play(Fault.OK, transport) if not BEGIN_NS <= e.send_ns < END_NS]
    assert [e for e in emissions if not BEGIN_NS <= e.send_ns < END_NS] == ok
    assert {e.fault for e in during(emissions)} <= {fault}


@given(seeds, transports)
def test_messages_come_in_order_and_no_fault_leaks_from_any_schedule(seed, transport):
    schedule = make_schedule(seed, START_NS, 10 * SECOND_NS, EVERY_FAULT[transport])
    camera = FaultyCamera(schedule, PERIOD_NS, transport, seed)
    emissions = list(play_out(camera, [b"\x00\x01\x00\x00" + bytes(60)]))
    assert emissions == sorted(emissions)
    assert all(e.fault is schedule.at(e.send_ns).fault for e in emissions)
    assert all(e.stamp_ns <= e.send_ns for e in emissions if e.fault is not Fault.CLOCK_STEP)
    assert len({e.stamp_ns for e in emissions}) == len(emissions)


@every_fault
def test_the_stamp_is_in_the_message(fault, transport):
    for emission in play(fault, transport):
        stamp = struct.unpack_from("<iI", emission.message, 4)
        assert stamp == divmod(emission.stamp_ns, SECOND_NS)


@every_fault
def test_the_node_refuses_what_is_spoilt_and_reads_the_rest(fault, transport):
    kinds = {kind_of(e.message, transport) for e in during(play(fault, transport))}
    allowed = KINDS.get((fault, transport), set() if fault is Fault.OFF else {""})
    assert kinds == allowed


# Each fault


def test_an_ok_camera_sends_every_frame_in_time_as_it_is():
    emissions = play(Fault.OK)
    assert len(emissions) == -(-DURATION_NS // PERIOD_NS)
    for number, emission in enumerate(emissions):
        time_ns = START_NS + number * PERIOD_NS
        picture = PICTURES["raw"][number % 3]
        assert emission == (time_ns, time_ns, Fault.OK, with_stamp(picture, time_ns))


def test_off_sends_nothing():
    assert during(play(Fault.OFF)) == []


@pytest.mark.parametrize("begin_ns", [START_NS, BEGIN_NS])
def test_stuck_repeats_the_last_good_picture_with_new_stamps(begin_ns):
    schedule = FaultSchedule(
        START_NS, START_NS + DURATION_NS, [Interval(Fault.STUCK, begin_ns, END_NS)]
    )
    emissions = list(play_out(FaultyCamera(schedule, PERIOD_NS, "raw", 1), PICTURES["raw"]))
    stuck = [e for e in emissions if begin_ns <= e.send_ns < END_NS]
    assert len({e.message[12:] for e in stuck}) == 1
    assert len({e.stamp_ns for e in stuck}) == len(stuck) > 80
    before = [e for e in emissions if e.send_ns < begin_ns]
    assert stuck[0].message[12:] == (before[-1].message if before else PICTURES["raw"][0])[12:]


def test_slow_sends_one_frame_in_six():
    sent = during(play(Fault.SLOW))
    gaps_ns = {after.send_ns - before.send_ns for before, after in pairwise(sent)}
    assert gaps_ns == {SLOW_DOWN * PERIOD_NS}
    assert sent[0].send_ns - BEGIN_NS < PERIOD_NS


def test_delayed_sends_old_stamps():
    sent = during(play(Fault.DELAYED))
    assert {e.send_ns - e.stamp_ns for e in sent} == {DELAY_NS}
    assert sent[0].stamp_ns - BEGIN_NS < PERIOD_NS


def test_intermittent_loses_three_in_ten():
    sent = [e for seed in range(20) for e in during(play(Fault.INTERMITTENT, seed=seed))]
    share = len(sent) / (20 * 3 * 30)
    assert share == pytest.approx(1.0 - LOST_SHARE, abs=0.05)


def test_a_burst_has_ten_times_as_many():
    sent = during(play(Fault.BURST))
    assert len(sent) == pytest.approx(3 * 30 * BURST_FACTOR, abs=2 * BURST_FACTOR)
    gaps_ns = [after.send_ns - before.send_ns for before, after in pairwise(sent)]
    assert max(gaps_ns) - min(gaps_ns) <= 1
    assert len({e.stamp_ns for e in sent}) == len(sent)


def test_jitter_sends_each_frame_a_part_of_a_period_later_in_their_order():
    sent = during(play(Fault.JITTER))
    late_ns = [e.send_ns - e.stamp_ns for e in sent]
    assert max(late_ns) <= LARGEST_JITTER * PERIOD_NS
    assert max(late_ns) - min(late_ns) > PERIOD_NS / 2
    stamps_ns = [e.stamp_ns for e in sent]
    assert stamps_ns == sorted(stamps_ns)
    assert len(sent) == pytest.approx(3 * 30, abs=1)


def test_a_clock_step_is_an_hour_in_either_direction_as_long_as_it_lasts():
    steps_ns = set()
    for seed in range(20):
        of_seed = {e.stamp_ns - e.send_ns for e in during(play(Fault.CLOCK_STEP, seed=seed))}
        assert len(of_seed) == 1
        steps_ns |= of_seed
    assert steps_ns == {-CLOCK_STEP_NS, CLOCK_STEP_NS}


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=127), max_size=20))
def test_fields_are_found_behind_any_frame_id(frame_id):
    picture = image_message(smooth(12, 16), frame_id=frame_id)
    camera = camera_with(Fault.WRONG)
    kinds = [
        kind_of(camera.emit(picture, BEGIN_NS + number * PERIOD_NS)[0].message, "raw")
        for number in (0, 1)
    ]
    assert kinds == ["layout", "encoding"]


def test_a_new_stamp_changes_nothing_else():
    message = with_stamp(PICTURES["raw"][0], BEGIN_NS + 5)
    assert read_header(CdrReader(message)) == (BEGIN_NS + 5, "camera")
    assert message[12:] == PICTURES["raw"][0][12:]
