# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.calibration import metrics
from perception_node.calibration.metrics import Bin, ClassDrop, Predictions


def answers(*best, confidences=None):
    return Predictions(list(best), confidences or [0.9] * len(best), [1.0] * len(best))


def truth(*classes):
    return np.array(classes, np.int64)


def test_top_accuracy_counts_the_right_class_among_the_best():
    given = answers((1, 2, 3), (2, 1, 3), (3, 2, 1), (4, 5, 6))
    right = truth(1, 1, 1, 1)
    assert metrics.top_accuracy(given, right, 1) == 0.25
    assert metrics.top_accuracy(given, right, 2) == 0.5
    assert metrics.top_accuracy(given, right, 5) == 0.75


def test_agreement_is_about_the_best_class_only():
    one, other = answers((1, 2), (2, 1), (3, 1), (4, 1)), answers((1, 3), (2, 3), (1, 3), (4, 2))
    assert metrics.agreement(other, one) == 0.75
    assert metrics.agreement(one, one) == 1.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 0], [5, 0], 1.0),
        ([1, 0], [0, 1], 0.0),
        ([1, 0], [-2, 0], -1.0),
        ([1, 1], [1, 0], 0.5**0.5),
        ([0, 0], [0, 0], 1.0),
        ([0, 0], [1, 0], 0.0),
    ],
)
def test_cosine(one, other, expected):
    found = metrics.cosine(np.array([one], np.float32), np.array([other], np.float32))
    assert found == pytest.approx(expected)


def test_a_cosine_of_huge_values_does_not_overflow():
    huge = np.full((1, 4), 3e38, np.float32)
    assert metrics.cosine(huge, huge) == pytest.approx(1.0)


def test_cosines_are_averaged():
    given = Predictions([(0,), (0,)], [0.5, 0.5], [1.0, 0.5])
    assert given.cosine == 0.75


def test_a_model_that_is_as_often_right_as_it_is_sure_has_no_calibration_error():
    given = answers(*[(0,)] * 4, confidences=[0.75] * 4)
    bins = metrics.reliability(given, truth(0, 0, 0, 1))
    assert metrics.calibration_error(bins) == 0.0


def test_calibration_error_is_the_mean_distance_weighted_by_images():
    given = answers((0,), (0,), (0,), (0,), confidences=[0.9, 0.9, 0.9, 0.1])
    bins = metrics.reliability(given, truth(0, 0, 1, 1))
    assert bins[13] == Bin(3, 0.9, round(2 / 3, 6))
    assert bins[1] == Bin(1, 0.1, 0.0)
    expected = (3 * (0.9 - 2 / 3) + 1 * 0.1) / 4
    assert metrics.calibration_error(bins) == pytest.approx(expected, abs=1e-6)


def test_every_image_is_in_one_of_15_bins():
    confidences = [0.0, 1 / 15, 0.5, 0.999999, 1.0]
    bins = metrics.reliability(answers(*[(0,)] * 5, confidences=confidences), truth(*[0] * 5))
    assert len(bins) == 15
    assert [one.images for one in bins] == [1, 1, *[0] * 5, 1, *[0] * 6, 2]


def test_the_class_that_loses_most_comes_first_and_gains_are_no_drops():
    right = truth(0, 0, 1, 1, 2, 2, 3)
    reference = answers((0,), (0,), (1,), (1,), (9,), (9,), (3,))
    given = answers((0,), (9,), (9,), (9,), (2,), (2,), (3,))
    assert metrics.worst_drops(given, reference, right, 5) == [
        ClassDrop(1, images=2, before=2, after=0),
        ClassDrop(0, images=2, before=2, after=1),
    ]
    assert len(metrics.worst_drops(given, reference, right, 1)) == 1
