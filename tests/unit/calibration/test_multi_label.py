# SPDX-License-Identifier: Apache-2.0
"""Measures of multi-label models, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.calibration import multi_label

SCORES = np.array([[0.9, 0.2, 0.6], [0.4, 0.7, 0.6], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]], np.float32)
TRUTH = multi_label.to_decisions(
    [frozenset({0, 2}), frozenset({1}), frozenset({1}), frozenset()], 3
)


def test_sets_become_rows():
    assert TRUTH.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_a_threshold_is_reached_by_its_own_value():
    scores = np.array([[0.5, 0.49]], np.float32)
    assert multi_label.decide(scores, None).tolist() == [[True, False]]
    assert multi_label.decide(scores, (0.6, 0.4)).tolist() == [[False, True]]


def test_measures_worked_out_by_hand():
    decided = multi_label.decide(SCORES, None)
    found = multi_label.measure(SCORES, decided, TRUTH)
    assert found["precision"] == pytest.approx(3 / 6)  # 3 right of 6 labels
    assert found["recall"] == pytest.approx(3 / 4)
    red, green, blue = found["labels"]
    assert red == {
        "class_id": 0,
        "images": 1,
        "precision": 0.5,
        "recall": 1.0,
        "average_precision": 1.0,
    }
    assert (green["precision"], green["recall"]) == (0.5, 0.5)
    assert green["average_precision"] == pytest.approx((1 + 2 / 4) / 2)
    assert blue["average_precision"] == 0.5  # of two images with the same score one has it
    assert found["mean_average_precision"] == pytest.approx((1.0 + 0.75 + 0.5) / 3, abs=1e-5)


def test_what_has_no_value_has_none():
    nothing = np.zeros((4, 3), np.bool_)
    found = multi_label.measure(SCORES, nothing, nothing)
    assert (found["precision"], found["recall"], found["mean_average_precision"]) == (
        None,
        None,
        0,
    )
    assert {one["average_precision"] for one in found["labels"]} == {None}


def test_agreement_is_what_both_say_of_what_either_says():
    one = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], np.bool_)
    other = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], np.bool_)
    assert multi_label.agreement(one, other) == pytest.approx((0.5 + 1.0 + 0.0) / 3, abs=1e-6)
    assert multi_label.agreement(one, one) == 1.0


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1))
def test_the_order_of_images_means_nothing(rows):
    def value(pairs):
        scores, truth = zip(*pairs, strict=True)
        return multi_label.average_precision(np.array(scores, np.float32), np.array(truth))

    assert value(rows) == value(rows[::-1])
    known = any(right for _, right in rows)
    assert (value(rows) is not None) == known
    if known:
        assert 0.0 < value(rows) <= 1.0
