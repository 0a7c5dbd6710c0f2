# SPDX-License-Identifier: Apache-2.0
"""What is measured of a classifier's answers, alone and beside those of the float32 model."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

BINS = 15  # of the expected calibration error, as in Guo et al. 2017
TOP = 5
DIGITS = 6  # of what is written down
ROUNDS, RUNS_PER_ROUND = 5, 10  # of a latency


@dataclass(slots=True)
class Predictions:
    """What one model said of each image, in their order; the logits themselves are not kept.

    Attributes:
        best: the best classes, best first, as many for every image.
        confidences: probability of the best one.
        cosines: between this model's output and that of the float32 model.
        scores: of all classes, float32 (classes,); of multi-label models only.

    """

    best: list[tuple[int, ...]] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many images were answered."""
        return len(self.best)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The best class of each image: (images,)."""
        return np.array([classes[0] for classes in self.best], np.int64)

    @property
    def cosine(self) -> float:
        """Mean cosine between this model's outputs and those of the float32 model."""
        return rounded(np.mean(self.cosines))


class Bin(NamedTuple):
    """Images whose best class had about the same probability.

    Attributes:
        images: how many.
        confidence: mean probability of the best class.
        accuracy: part of the images where it is the right one.

    """

    images: int
    confidence: float
    accuracy: float


class ClassDrop(NamedTuple):
    """A class that fewer images are recognised of than in float32.

    Attributes:
        class_id: index of the class.
        images: of this class.
        before: how many of them the float32 model recognises.
        after: how many this model does.

    """

    class_id: int
    images: int
    before: int
    after: int


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine of the angle between two vectors, 1 if both are zero."""
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0.0:
        return float(not a.any() and not b.any())
    return float(a @ b) / lengths


def top_accuracy(answers: Predictions, truth: NDArray[np.int64], count: int) -> float:
    """Return for what part of the images the right class is among the best ``count``."""
    best = np.array(answers.best, np.int64)[:, :count]
    return rounded(np.mean((best == truth[:, None]).any(axis=1)))


def agreement(answers: Predictions, reference: Predictions) -> float:
    """Return for what part of the images two models have the same best class."""
    return rounded(np.mean(answers.labels == reference.labels))


def reliability(answers: Predictions, truth: NDArray[np.int64]) -> list[Bin]:
    """Return confidence and accuracy of images in ``BINS`` equal steps of confidence."""
    correct = answers.labels == truth
    confidences = np.array(answers.confidences, np.float64)
    steps = np.minimum((confidences * BINS).astype(int), BINS - 1)
    bins = []
    for step in range(BINS):
        inside = steps == step
        count = int(inside.sum())
        values = (confidences[inside].mean(), correct[inside].mean()) if count else (0.0, 0.0)
        bins.append(Bin(count, *map(rounded, values)))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: how far confidence and accuracy are apart."""
    images = sum(one.images for one in bins)
    return rounded(sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / images)


def worst_drops(
    answers: Predictions, reference: Predictions, truth: NDArray[np.int64], count: int
) -> list[ClassDrop]:
    """Return up to ``count`` classes that lose the most against float32, worst first."""
    before, after = reference.labels == truth, answers.labels == truth
    drops = []
    for class_id in np.unique(truth):
        inside = truth == class_id
        drop = ClassDrop(
            int(class_id), int(inside.sum()), int(before[inside].sum()), int(after[inside].sum())
        )
        if drop.after < drop.before:
            drops.append(drop)
    drops.sort(key=lambda drop: ((drop.after - drop.before) / drop.images, drop.class_id))
    return drops[:count]


def rounded(value: float | np.floating) -> float:
    """Return a number with as many digits as are written down."""
    return round(float(value), DIGITS)


def latencies_ms(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of each model's run, in blocks that take turns: busy moments hit all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            run()  # brings its weights back into the cache
            for _ in range(RUNS_PER_ROUND):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
