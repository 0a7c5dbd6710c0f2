# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perception_node.errors import EngineError
from perception_node.vision.postprocess import Postprocessor

NAMES = tuple("abcdefgh")
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def best(values, kind="logits", *, top_k=100, threshold=0.0):
    labels = tuple(f"class {index}" for index in range(len(values)))
    output = np.array([values], np.float32)
    return Postprocessor(kind, labels).best(output, top_k=top_k, threshold=threshold)


def test_softmax_of_known_logits():
    found = best([0.0, np.log(2.0), np.log(5.0)])
    assert [h.class_id for h in found] == [2, 1, 0]
    assert [h.label for h in found] == ["class 2", "class 1", "class 0"]
    assert [h.score for h in found] == pytest.approx([5 / 8, 2 / 8, 1 / 8], abs=1e-6)
    assert all(type(h.score) is float and type(h.class_id) is int for h in found)


@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_large_logits_do_not_overflow(offset):
    found = best([offset + 1.0, offset + 2.0])
    assert [h.score for h in found] == pytest.approx([0.7310586, 0.2689414], abs=1e-4)


def test_logits_at_the_ends_of_float32():
    found = best([3e38, -3e38, 0.0])
    assert [(h.class_id, h.score) for h in found] == [(0, 1.0), (1, 0.0), (2, 0.0)]


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_published(kind, bad):
    with pytest.raises(EngineError, match="2 of 4 output values are NaN or infinite"):
        best([0.5, bad, 0.5, bad], kind)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_equal_scores_keep_the_order_of_their_classes(kind):
    found = best([0.2, 0.4, 0.2, 0.4, 0.2], kind, top_k=4)
    assert [h.class_id for h in found] == [1, 3, 0, 2]


def test_equal_scores_keep_their_order_among_many_classes():
    found = best([0.0, 1.0] * 500, top_k=1000)
    assert [h.class_id for h in found] == [*range(1, 1000, 2), *range(0, 1000, 2)]


@given(
    hnp.arrays(np.float32, st.integers(17, 60), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.integers(1, 16),
)
def test_a_few_are_the_first_of_all(values, top_k):
    every = best(values, "probabilities", top_k=100)
    assert best(values, "probabilities", top_k=top_k) == every[:top_k]
    assert [h.class_id for h in every] == sorted(range(len(values)), key=lambda i: -values[i])


def test_top_k_and_threshold():
    values = [0.1, 0.6, 0.3]
    assert [h.class_id for h in best(values, "probabilities", top_k=2)] == [1, 2]
    assert [h.class_id for h in best(values, "probabilities", threshold=0.25)] == [1, 2]
    assert best(values, "probabilities", threshold=0.61) == ()
    assert len(best(values, "probabilities", top_k=3)) == 3


def test_a_score_at_the_threshold_counts():
    assert [h.score for h in best([0.5, 0.25, 0.25], "probabilities", threshold=0.5)] == [0.5]


@pytest.mark.parametrize("values", [[0.2, 1.01], [-0.01, 0.5], [12.5, -3.0]])
def test_logits_in_the_place_of_probabilities_are_noticed(values):
    with pytest.raises(EngineError, match='"kind": "logits"'):
        best(values, "probabilities")


def test_rounding_of_probabilities_is_clipped():
    found = best([1.0005, -0.0005], "probabilities")
    assert [h.score for h in found] == [1.0, 0.0]


def test_the_output_is_not_changed():
    output = np.array([[1.0, 5.0, 2.0]], np.float32)
    Postprocessor("logits", NAMES[:3]).best(output, top_k=1, threshold=0.0)
    assert output.tolist() == [[1.0, 5.0, 2.0]]


def test_one_frame_leaves_nothing_behind_for_the_next():
    postprocessor = Postprocessor("logits", NAMES[:2])
    first = postprocessor.best(np.array([[0, 9]], np.float32), top_k=2, threshold=0.0)
    second = postprocessor.best(np.array([[9, 0]], np.float32), top_k=2, threshold=0.0)
    assert [h.class_id for h in first] == [1, 0]
    assert [h.class_id for h in second] == [0, 1]


@given(
    logits=hnp.arrays(np.float32, st.integers(1, 20), elements=FINITE),
    top_k=st.integers(1, 25),
    threshold=st.floats(0.0, 1.0, width=32),
)
def test_scores_are_sorted_probabilities(logits, top_k, threshold):
    found = best(logits, top_k=top_k, threshold=threshold)
    scores = [h.score for h in found]
    assert len(found) <= min(top_k, len(logits))
    assert scores == sorted(scores, reverse=True)
    assert all(threshold <= score <= 1.0 + 1e-6 for score in scores)
    assert sum(scores) <= 1.0 + 1e-5
    assert len({h.class_id for h in found}) == len(found)
    if found:
        assert float(logits.max()) - float(logits[found[0].class_id]) < 1e-6


@given(logits=hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-80, 80, width=32)))
def test_softmax_agrees_with_float64(logits):
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    expected = exponents / exponents.sum()
    for hypothesis in best(logits):
        assert hypothesis.score == pytest.approx(expected[hypothesis.class_id], abs=1e-5)


# Multi-label


def test_sigmoid_of_known_logits():
    found = best([0.0, 2.0, -1.0], "sigmoid-logits")
    assert [h.class_id for h in found] == [1, 0, 2]
    assert [h.score for h in found] == pytest.approx([0.880797, 0.5, 0.268941], abs=1e-6)


def test_logits_of_any_size_have_a_sigmoid():
    largest = float(np.finfo(np.float32).max)
    found = best([largest, -largest, 200.0, -200.0], "sigmoid-logits")
    assert [h.score for h in found] == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-30)


def test_sigmoid_scores_are_taken_as_they_are():
    assert [h.score for h in best([0.75, 1.0, 0.5], "sigmoid")] == [1.0, 0.75, 0.5]
    with pytest.raises(EngineError, match='no sigmoid; say "kind": "sigmoid-logits"'):
        best([0.75, 1.5, 0.5], "sigmoid")


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid-logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_no_result(kind, value):
    with pytest.raises(EngineError, match="NaN or infinite"):
        best([0.5, value], kind)


@pytest.mark.parametrize("top_k", [1, 2, 100])
def test_a_class_must_reach_its_own_threshold_and_the_common_one(top_k):
    postprocessor = Postprocessor("sigmoid", NAMES[:4], (0.9, 0.5, 0.5, 0.0))
    output = np.array([[0.8, 0.5, 0.7, 0.1]], np.float32)
    for _ in range(2):  # nothing is left of the frame before
        found = postprocessor.best(output, top_k=top_k, threshold=0.0)
        assert [h.class_id for h in found] == [2, 1, 3][:top_k]
        found = postprocessor.best(output, top_k=top_k, threshold=0.6)
        assert [h.class_id for h in found] == [2]
