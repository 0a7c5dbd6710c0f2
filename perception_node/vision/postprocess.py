# SPDX-License-Identifier: Apache-2.0
"""From the engine's output to a prediction: finite check, scores, best classes, labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perception_node.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.model.bundle import OutputKind


LARGEST = float(np.finfo(np.float32).max)
ROUNDING = 1e-3  # room for that of float16
FEW = 16
LARGEST_LOGIT = 80.0  # its sigmoid is 1, and exp() of it is below LARGEST
BELOW_ALL = -1.0  # no threshold is that low


class Hypothesis(NamedTuple):
    """One class the image may show.

    Attributes:
        class_id: index of the class in the model's output.
        label: name of the class; names may repeat, indices do not.
        score: probability, 0 to 1; of one class of all, or of each for itself (multi-label).

    """

    class_id: int
    label: str
    score: float


class Postprocessor:
    """Turns a row of the model's output into the best hypotheses."""

    def __init__(
        self,
        kind: OutputKind,
        labels: tuple[str, ...],
        thresholds: tuple[float, ...] | None = None,
    ) -> None:
        """Prepare for outputs of one kind.

        Args:
            kind: what the output is.
            labels: one per class.
            thresholds: the score that each class must reach, 0 to 1; None for no such limits.

        """
        self._kind = kind
        self._labels = labels
        self._scores = np.empty(len(labels), np.float32)
        self._to_scores = {
            "logits": self._softmax,
            "probabilities": self._checked,
            "sigmoid": self._checked,
            "sigmoid-logits": self._sigmoid,
        }[kind]
        self._thresholds = None if thresholds is None else np.array(thresholds, np.float32)
        self._is_low = np.empty(len(labels), np.bool_)

    def best(
        self, output: NDArray[np.float32], *, top_k: int, threshold: float
    ) -> tuple[Hypothesis, ...]:
        """Return up to ``top_k`` hypotheses with a score of at least ``threshold``, best first.

        Where the classes have thresholds of their own, these must be reached, too. Equal scores
        keep the order of their class indices, so results are reproducible.

        Args:
            output: float32 of shape (1, classes).
            top_k: 1 or more.
            threshold: 0 to 1.

        Raises:
            EngineError: the shape is another one, a value is NaN or infinite, or not between 0
                and 1 where that was promised.

        """
        scores = self.scores(output)
        if self._thresholds is not None:
            np.less(scores, self._thresholds, self._is_low)
            np.putmask(scores, self._is_low, BELOW_ALL)
        return self._take_best(scores, top_k, threshold)

    def scores(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of every class, float32 (classes,); valid until the next call.

        Raises:
            EngineError: see ``best``.

        """
        if output.shape != (1, len(self._labels)):
            msg = f"the output has shape {output.shape}, the model has {len(self._labels)} classes"
            raise EngineError(msg)
        return self._to_scores(output[0])

    def _softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax with the largest logit subtracted first, so that exp() cannot overflow."""
        lowest, highest = _find_range(logits)
        if highest - lowest <= LARGEST:
            np.subtract(logits, highest, self._scores)
        else:
            with np.errstate(over="ignore"):  # a difference of -inf is a score of 0
                np.subtract(logits, highest, self._scores)
        np.exp(self._scores, self._scores)
        return np.divide(self._scores, np.add.reduce(self._scores), self._scores)

    def _sigmoid(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sigmoid of logits within limits, so that exp() cannot overflow."""
        _find_range(logits)
        np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT, out=self._scores)
        np.negative(self._scores, self._scores)
        np.exp(self._scores, self._scores)
        np.add(self._scores, 1.0, self._scores)
        return np.reciprocal(self._scores, self._scores)

    def _checked(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        lowest, highest = _find_range(scores)
        if lowest < -ROUNDING or highest > 1.0 + ROUNDING:
            name, kind = (
                ("sigmoid", "sigmoid-logits")
                if self._kind == "sigmoid"
                else ("probabilities", "logits")
            )
            msg = (
                f"the output ranges from {lowest:.3g} to {highest:.3g}, which are no "
                f'{name}; say "kind": "{kind}" in the bundle'
            )
            raise EngineError(msg)
        return np.clip(scores, 0.0, 1.0, out=self._scores)

    def _take_best(
        self, scores: NDArray[np.float32], count: int, threshold: float
    ) -> tuple[Hypothesis, ...]:
        """Search for a few, which is much faster than to sort 1000; ``scores`` is used up."""
        if count > FEW:
            order = np.argsort(-scores, kind="stable")[:count].tolist()
            return tuple(
                Hypothesis(index, self._labels[index], float(scores[index]))
                for index in order
                if scores[index] >= threshold
            )
        found: list[Hypothesis] = []
        for _ in range(min(count, len(scores))):
            index = int(scores.argmax())  # the first of equal ones
            score = scores[index]
            if score < threshold:
                break
            found.append(Hypothesis(index, self._labels[index], float(score)))
            scores[index] = -1.0
        return tuple(found)


def _find_range(output: NDArray[np.float32]) -> tuple[float, float]:
    """Return the lowest and the highest value, which exist only where all are finite."""
    # By their indices: less of NumPy takes part than in min() and max(), and the caches are cold.
    lowest, highest = output.item(output.argmin()), output.item(output.argmax())
    if not math.isfinite(lowest) or not math.isfinite(highest):  # NaN is either's result
        bad = int(np.count_nonzero(~np.isfinite(output)))
        msg = f"{bad} of {output.size} output values are NaN or infinite; no result is published"
        raise EngineError(msg)
    return lowest, highest
