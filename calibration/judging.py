# SPDX-License-Identifier: Apache-2.0
"""What was measured of a model, and whether that is within the accuracy gate's limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.calibration import metrics, multi_label
from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perception_node.calibration.metrics import Predictions
    from perception_node.model.bundle import ModelBundle

    Truth = int | frozenset[int]  # of one image: its class, or all its labels

FEWEST_IMAGES = 50  # one image more or less is then at most two points
WORST = 12  # flips and classes that are kept of each model
HIGHEST_DROP = 100.0  # points are percent


@dataclass(frozen=True, slots=True)
class Limits:
    """What the accuracy gate allows.

    Attributes:
        max_drop: points of top-1 accuracy below float32, where the images are labelled; of a
            multi-label model points of mean average precision.
        min_agreement: part of the images with the same best class as in float32, 0 to 1; of a
            multi-label model ``multi_label.agreement``.

    """

    max_drop: float = 1.0
    min_agreement: float = 0.95

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            ConfigError: a limit that means nothing.

        """
        if not 0.0 <= self.max_drop <= HIGHEST_DROP:
            msg = f"--max-drop is {self.max_drop:g}; it must be 0 to 100 points"
            raise ConfigError(msg)
        if not 0.0 <= self.min_agreement <= 1.0:
            msg = f"--min-agreement is {self.min_agreement:g}; it must be 0 to 1"
            raise ConfigError(msg)


DEFAULT_LIMITS = Limits()


def judge(
    bundle: ModelBundle,
    answers: Predictions,
    reference: Predictions,
    truth: list[Truth] | None,
    limits: Limits,
) -> dict[str, Any]:
    """Return what was measured of one model beside the float32 one, and whether it passes.

    ``truth`` is what the images show, None where it is not known.
    """
    if bundle.manifest.output.is_multi_label:
        measured = _measure_labels(bundle, answers, reference, truth)
    else:
        measured = _measure_classes(bundle, answers, reference, truth)
    why = [] if answers is reference else list(_reasons(len(answers), measured, limits))
    return {"passed": not why, "why": why, **measured}


def _measure_classes(
    bundle: ModelBundle, answers: Predictions, reference: Predictions, truth: list[Truth] | None
) -> dict[str, Any]:
    """Measure a model that gives each image one class."""
    measured: dict[str, Any] = {
        "agreement": metrics.agreement(answers, reference),
        "cosine": answers.cosine,
    }
    if truth is None:
        return measured
    classes = np.array(truth, np.int64)
    bins = metrics.reliability(answers, classes)
    top_1 = metrics.top_accuracy(answers, classes, 1)
    drop = 100 * (metrics.top_accuracy(reference, classes, 1) - top_1)
    drops = metrics.worst_drops(answers, reference, classes, WORST)
    return {
        **measured,
        "top_1": top_1,
        "top_5": metrics.top_accuracy(answers, classes, metrics.TOP),
        "drop": metrics.rounded(drop),
        "calibration_error": metrics.calibration_error(bins),
        "reliability": [one._asdict() for one in bins],
        "worst_classes": [
            {**one._asdict(), "label": bundle.labels[one.class_id]} for one in drops
        ],
    }


def _measure_labels(
    bundle: ModelBundle, answers: Predictions, reference: Predictions, truth: list[Truth] | None
) -> dict[str, Any]:
    """Measure a model that gives each image any number of labels."""
    output = bundle.manifest.output
    scores, expected = np.array(answers.scores), np.array(reference.scores)
    decided = multi_label.decide(scores, output.thresholds)
    others = multi_label.decide(expected, output.thresholds)
    measured: dict[str, Any] = {
        "agreement": multi_label.agreement(decided, others),
        "cosine": answers.cosine,
    }
    if truth is None:
        return measured
    sets = [each for each in truth if isinstance(each, frozenset)]
    right = multi_label.to_decisions(sets, output.classes)
    measured |= multi_label.measure(scores, decided, right)
    for one in measured["labels"]:
        one["label"] = bundle.labels[one["class_id"]]
    drop = multi_label.mean_average_precision(expected, right)
    drop -= measured["mean_average_precision"]
    return {**measured, "drop": metrics.rounded(100 * drop)}


def _reasons(images: int, measured: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """Yield why a model does not pass, a few words each."""
    drop, found, wanted = measured.get("drop", 0.0), measured["agreement"], limits.min_agreement
    if images < FEWEST_IMAGES:
        yield f"{images} image(s) cannot judge, {FEWEST_IMAGES} or more can"
    if drop > limits.max_drop:
        name = "top-1" if "top_1" in measured else "mAP"
        yield f"{name} is {drop:.2f} points below float32, over {limits.max_drop:g}"
    if found < wanted:
        yield f"agrees with float32 on {found:.2%} of the images, under {wanted:.2%}"
