# SPDX-License-Identifier: Apache-2.0
"""What is measured of a multi-label classifier: every class of every image is a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.calibration.metrics import rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Scores = NDArray[np.float32]  # (images, classes)
    Decisions = NDArray[np.bool_]  # the same

THRESHOLD = 0.5  # of a class for which the bundle has none


def decide(scores: Scores, thresholds: Sequence[float] | None) -> Decisions:
    """Return which labels each image gets: those whose score reaches the threshold."""
    limits = THRESHOLD if thresholds is None else np.array(thresholds, np.float32)
    return np.asarray(scores >= limits)


def to_decisions(sets: Sequence[frozenset[int]], classes: int) -> Decisions:
    """Return sets of class indices, one per image, as an array."""
    decisions = np.zeros((len(sets), classes), np.bool_)
    for row, indices in zip(decisions, sets, strict=True):
        row[list(indices)] = True
    return decisions


def agreement(one: Decisions, other: Decisions) -> float:
    """Return the mean Jaccard index of two models' labels: what both say of what either says.

    An image that gets no label from either counts as 1.
    """
    both, either = (one & other).sum(axis=1), (one | other).sum(axis=1)
    return rounded(np.mean(np.where(either == 0, 1.0, both / np.maximum(either, 1))))


def measure(scores: Scores, decided: Decisions, truth: Decisions) -> dict[str, Any]:
    """Return precision, recall and average precision, of all labels and of each.

    Those of all are of all decisions together (micro averages), but for
    ``mean_average_precision``. None stands for what has no value: the precision of a label that no
    image got, the recall of one that no image has.
    """
    return {
        "mean_average_precision": mean_average_precision(scores, truth),
        **precision_and_recall(decided, truth),
        "labels": [
            {
                "class_id": index,
                "images": int(truth[:, index].sum()),
                **precision_and_recall(decided[:, index], truth[:, index]),
                "average_precision": average_precision(scores[:, index], truth[:, index]),
            }
            for index in range(truth.shape[1])
        ],
    }


def mean_average_precision(scores: Scores, truth: Decisions) -> float:
    """Return the mean over the labels that an image has; 0 if no image has any."""
    found = [average_precision(*pair) for pair in zip(scores.T, truth.T, strict=True)]
    known = [value for value in found if value is not None]
    return rounded(np.mean(known)) if known else 0.0


def precision_and_recall(decided: Decisions, truth: Decisions) -> dict[str, float | None]:
    """Return which part of the decisions is right, and which part of the truth was found."""
    right = int((decided & truth).sum())
    made, true = int(decided.sum()), int(truth.sum())
    return {
        "precision": rounded(right / made) if made else None,
        "recall": rounded(right / true) if true else None,
    }


def average_precision(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float | None:
    """Return the area below a label's steps of precision over recall; None if no image has it.

    Images with the same score are one step: their order means nothing.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(truth[order])[ends]
    if found[-1] == 0:
        return None
    steps = np.diff(found, prepend=0)
    return rounded((steps * found / (ends + 1)).sum() / found[-1])
