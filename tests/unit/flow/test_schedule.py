# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import cycle, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.flow.frame_loop import EarliestDeadlineFirst

TIMES_LEFT = st.one_of(st.integers(-(10**9), 10**9), st.just(float("-inf")))


def infer(schedule, time_left_ns):
    """Choose among the cameras that wait, and classify the frame of the chosen one."""
    camera = schedule.choose(time_left_ns)
    schedule.note_inference(camera, [other for other in time_left_ns if other != camera])
    return camera


def test_the_earliest_deadline_is_first():
    schedule = EarliestDeadlineFirst(3)
    assert schedule.choose({0: 30, 1: 10, 2: 20}) == 1
    assert schedule.choose({0: 30, 2: 20}) == 2
    assert schedule.choose({0: 5, 1: -10, 2: 20}) == 1
    assert schedule.choose({0: 5, 1: 0, 2: float("-inf")}) == 2
    assert schedule.choose({2: 7}) == 2


def test_to_choose_changes_nothing():
    schedule = EarliestDeadlineFirst(2)
    assert [schedule.choose({0: 1, 1: 2}) for _ in range(10)] == [0] * 10


def test_a_camera_that_was_passed_over_as_often_as_there_are_cameras_is_next():
    schedule = EarliestDeadlineFirst(2)
    assert [infer(schedule, {0: 1, 1: 99}) for _ in range(7)] == [0, 0, 1, 0, 0, 1, 0]


def test_a_frame_that_was_not_classified_passes_nobody_over():
    schedule = EarliestDeadlineFirst(2)
    for _ in range(10):  # stale: chosen, but never noted
        assert schedule.choose({0: 1, 1: 99}) == 0


def test_who_has_no_frame_is_not_passed_over():
    schedule = EarliestDeadlineFirst(2)
    for _ in range(10):
        assert infer(schedule, {0: 1}) == 0
    assert infer(schedule, {0: 1, 1: 99}) == 0


def test_who_is_classified_begins_anew():
    schedule = EarliestDeadlineFirst(2)
    for time_left_ns in ({0: 1, 1: 9}, {0: 9, 1: 1}, {0: 1, 1: 9}, {0: 1, 1: 9}):
        infer(schedule, time_left_ns)
    assert infer(schedule, {0: 1, 1: 9}) == 1


@pytest.mark.parametrize("cameras", range(1, 9))
@given(data=st.data())
def test_no_camera_starves(cameras, data):
    schedule = EarliestDeadlineFirst(cameras)
    row = st.lists(TIMES_LEFT, min_size=cameras, max_size=cameras)
    rows = cycle(data.draw(st.lists(row, min_size=1, max_size=9)))
    rows = [dict(enumerate(times_left_ns)) for times_left_ns in islice(rows, 6 * cameras)]
    order = [infer(schedule, row) for row in rows]
    for begin in range(len(order) - 2 * cameras + 1):
        window = order[begin : begin + 2 * cameras]
        assert set(window) == set(range(cameras)), (begin, order)


@pytest.mark.parametrize("cameras", range(2, 9))
def test_who_always_has_most_time_is_not_starved_either(cameras):
    schedule = EarliestDeadlineFirst(cameras)
    order = [infer(schedule, {c: c for c in range(cameras)}) for _ in range(20 * cameras)]
    for camera in range(cameras):
        turns = [turn for turn, chosen in enumerate(order) if chosen == camera]
        gaps = [b - a for a, b in pairwise(turns)]
        assert turns[0] < 2 * cameras
        assert max(gaps) <= 2 * cameras
