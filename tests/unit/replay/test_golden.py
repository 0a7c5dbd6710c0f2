# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.replay.golden import (
    ADDITIONAL,
    BEST,
    DROPPED,
    HEADER,
    MISSING,
    NUMBER,
    OTHERS,
    SCORE,
    compare,
)
from perception_node.replay.tolerance import Tolerance, parse_tolerance

LABELS = {"1": "cat", "2": "dog", "3": "cup", "4": "car"}


def frame(*scores, stamp=5, **fields):
    """A record; scores are given as ("class id", score)."""
    results = [{"class_id": c, "label": LABELS[c], "score": score} for c, score in scores]
    identity = {"topic": "/camera", "time_ns": stamp, "stamp_ns": stamp, "frame_id": "lens"}
    return {**identity, "results": results, **fields}


def dropped(kind="codec", why="damaged"):
    return {"topic": "/camera", "time_ns": 5, "dropped": kind, "why": why}


def differences(golden, found, score=0.02):
    return [str(line) for line in compare(golden, found, Tolerance(score=score))]


def kinds(golden, found, tolerance="0.02"):
    return [difference.kind for difference in compare(golden, found, parse_tolerance(tolerance))]


GOLDEN = [frame(("1", 0.7), ("2", 0.2)), frame(("3", 0.9), stamp=6), frame(stamp=7), dropped()]


def test_the_same_records_are_the_same():
    assert differences(GOLDEN, copy.deepcopy(GOLDEN), 0.0) == []
    assert differences([], []) == []


def test_a_score_may_differ_by_the_tolerance():
    golden = [frame(("1", 0.5), ("2", 0.25))]
    assert differences(golden, [frame(("1", 0.515), ("2", 0.24))]) == []
    assert len(differences(golden, [frame(("1", 0.53), ("2", 0.25))])) == 1
    assert len(differences(golden, [frame(("1", 0.5), ("2", 0.22))])) == 1


def test_close_classes_may_change_places():
    golden = [frame(("1", 0.40), ("2", 0.39), ("3", 0.1))]
    assert differences(golden, [frame(("2", 0.40), ("1", 0.39), ("3", 0.1))]) == []
    golden = [frame(("1", 0.60), ("2", 0.30))]
    assert len(differences(golden, [frame(("2", 0.60), ("1", 0.30))])) == 1


def test_a_class_from_below_the_last_place_may_take_it():
    golden = [frame(("1", 0.60), ("2", 0.15))]
    assert differences(golden, [frame(("1", 0.60), ("3", 0.15))]) == []
    assert differences(golden, [frame(("1", 0.60), ("3", 0.16))]) == []


def test_another_class_with_the_same_score_is_a_difference():
    """As where every class id is off by one: no class of the golden file is found again."""
    assert len(differences([frame(("1", 0.9))], [frame(("2", 0.9))])) == 1
    golden = [frame(("1", 0.5), ("2", 0.3))]
    assert len(differences(golden, [frame(("3", 0.5), ("4", 0.3))])) == 1
    assert len(differences(golden, [frame(("1", 0.5), ("4", 0.3))])) == 1  # 0.2 was left over


def test_another_label_for_a_class_is_a_difference():
    found = frame(("1", 0.7), ("2", 0.2))
    found["results"][0]["label"] = "lynx"
    assert len(differences(GOLDEN[:1], [found])) == 1


def test_another_number_of_results_is_a_difference():
    assert len(differences(GOLDEN[:1], [frame(("1", 0.7))])) == 1
    assert len(differences([frame(("1", 0.7))], GOLDEN[:1])) == 1
    assert len(differences([frame()], [frame(("1", 0.7))])) == 1


@pytest.mark.parametrize("field", ["topic", "time_ns", "stamp_ns", "frame_id"])
def test_the_frame_itself_must_be_the_same(field):
    found = copy.deepcopy(GOLDEN[0])
    found[field] = "other"
    assert len(differences(GOLDEN[:1], [found])) == 1


def test_a_frame_is_dropped_in_both_or_in_none():
    assert differences([dropped()], [dropped(why="other words")]) == []
    assert len(differences([dropped()], [dropped("stamp")])) == 1
    assert len(differences([dropped()], [frame(("1", 0.7))])) == 1


def test_a_score_that_is_no_number_is_a_difference():
    assert len(differences([frame(("1", float("nan")))], [frame(("1", 0.7))])) == 1
    assert len(differences([frame(("1", 0.7))], [frame(("1", float("nan")))])) == 1


def test_missing_and_additional_frames_are_listed():
    assert differences(GOLDEN, GOLDEN[:3]) == [
        "frame 4: missing, the golden file has /camera at None dropped (codec)"
    ]
    assert differences(GOLDEN[:2], GOLDEN) == [
        "frame 3: not in the golden file: /camera at 7: no result",
        "frame 4: not in the golden file: /camera at None dropped (codec)",
    ]


def test_a_difference_is_readable():
    found = frame(("1", 0.3), ("2", 0.2))
    (line,) = differences(GOLDEN[:1], [found])
    assert line == (
        "frame 1: expected /camera at 5: cat 0.7000, dog 0.2000, "
        "found /camera at 5: cat 0.3000, dog 0.2000"
    )


@given(
    scores=st.lists(st.floats(0.01, 0.25), min_size=1, max_size=4),
    noise=st.lists(st.floats(-0.009, 0.009), min_size=4, max_size=4),
)
def test_noise_below_half_the_tolerance_never_matters(scores, noise):
    """Whatever the noise does to the order of the classes."""

    def record(values):
        ranked = sorted(zip(LABELS, values, strict=False), key=lambda pair: -pair[1])
        return frame(*ranked)

    noisy = [score + n for score, n in zip(scores, noise, strict=False)]
    assert differences([record(scores)], [record(noisy)], 0.02) == []


@given(place=st.integers(0, 2), change=st.floats(0.021, 0.5) | st.floats(-0.5, -0.021))
def test_a_change_beyond_the_tolerance_is_always_seen(place, change):
    golden = frame(("1", 0.6), ("2", 0.2), ("3", 0.1))
    found = copy.deepcopy(golden)
    found["results"][place]["score"] += change
    assert len(differences([golden], [found])) == 1


# What is tolerated, field by field


@pytest.mark.parametrize(
    ("field", "name"),
    [("topic", "topic"), ("time_ns", "time"), ("stamp_ns", "stamp"), ("frame_id", "frame_id")],
)
def test_a_field_of_the_header_may_be_ignored(field, name):
    found = {**GOLDEN[0], field: "other"}
    assert kinds(GOLDEN[:1], [found], f"{name}=ignore") == []
    others = {"topic", "time", "stamp", "frame_id"} - {name}
    assert kinds(GOLDEN[:1], [found], ",".join(f"{o}=ignore" for o in others)) == [HEADER]


def test_a_field_of_a_dropped_frame_may_be_ignored():
    assert kinds([dropped()], [{**dropped(), "time_ns": 6}], "time=ignore") == []
    assert kinds([dropped()], [{**dropped(), "time_ns": 6}], "stamp=ignore") == [HEADER]


def test_only_the_best_results_may_be_compared():
    golden = [frame(("1", 0.6), ("2", 0.2), ("3", 0.1))]
    found = [frame(("1", 0.6), ("4", 0.3))]
    assert kinds(golden, found, "top=1") == []
    assert kinds(golden, found, "top=2") == [OTHERS]
    assert kinds(golden, found, "top=3") == [NUMBER]
    assert kinds(golden, [frame()], "top=1") == [NUMBER]


def test_what_is_below_the_compared_results_may_come_up_where_it_is_close():
    golden = [frame(("1", 0.40), ("2", 0.39))]
    assert kinds(golden, [frame(("2", 0.40), ("1", 0.39))], "top=1") == []
    assert kinds(golden, [frame(("2", 0.40), ("1", 0.39))], "score=0.001,top=1") == [BEST]


def test_places_may_be_demanded():
    golden = [frame(("1", 0.40), ("2", 0.39))]
    assert kinds(golden, [frame(("2", 0.40), ("1", 0.39))], "order=exact") == [BEST]
    assert kinds(golden, [frame(("1", 0.9), ("2", 0.1))], "score=1,order=exact") == []


def test_dropped_frames_may_be_left_out():
    assert kinds([dropped()], [frame(("1", 0.7))], "dropped=ignore") == []
    assert kinds([frame(("1", 0.7))], [dropped("stamp")], "dropped=ignore") == []
    assert kinds([dropped()], [dropped("stamp")], "dropped=ignore") == []
    assert kinds([dropped()], [frame(("1", 0.7), stamp=6)], "dropped=ignore") == [HEADER]


# What a difference is called


def test_every_kind_of_difference_has_a_name():
    one = frame(("1", 0.6), ("2", 0.2))
    cases = {
        ADDITIONAL: ([], [one]),
        MISSING: ([one], []),
        HEADER: ([one], [{**one, "frame_id": "other"}]),
        DROPPED: ([one], [dropped()]),
        BEST: ([one], [frame(("2", 0.6), ("1", 0.2))]),
        NUMBER: ([one], [frame(("1", 0.6))]),
        OTHERS: ([one], [frame(("1", 0.6), ("3", 0.3))]),
        SCORE: ([one], [frame(("1", 0.7), ("2", 0.2))]),
    }
    for kind, (golden, found) in cases.items():
        assert kinds(golden, found) == [kind]


def test_what_the_words_do_not_show_is_said():
    one = frame(("1", 0.6))
    (line,) = differences([one], [{**one, "frame_id": "other"}])
    assert line.endswith(f"found /camera at 5: cat 0.6000 ({HEADER})")


def test_independent_scores_may_add_up_to_more_than_1():
    golden = [frame(("1", 0.9), ("2", 0.8))]
    assert differences(golden, [frame(("1", 0.9), ("3", 0.81))]) == []
    assert kinds(golden, [frame(("1", 0.9), ("3", 0.83))]) == [OTHERS]
    assert kinds(golden, [frame(("3", 0.9), ("1", 0.8))]) == [BEST]
