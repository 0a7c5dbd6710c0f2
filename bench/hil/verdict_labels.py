# SPDX-License-Identifier: Apache-2.0
"""Judge labels: against a golden file, and among the answers to the same picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from perception_node.bench.check import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario


def judge_labels(
    scenario: Scenario,
    record: HilRecord,
    calm: NDArray[np.bool_],
    golden_labels: Sequence[str],
) -> list[Check]:
    """Judge the answers to calm frames."""
    pictures = {
        frame.stamp_ns: frame.picture
        for frame, is_calm in zip(record.sent, calm, strict=True)
        if is_calm
    }
    answered = [
        (pictures[answer.stamp_ns], answer.label)
        for answer in record.answers
        if answer.stamp_ns in pictures
    ]
    checks = []
    if scenario.expect.golden is not None:
        checks.append(_judge_golden(answered, golden_labels, scenario.expect.agreement_percent))
    if scenario.expect.same_labels:
        checks.append(_judge_same(answered))
    return checks


def _judge_golden(
    answered: list[tuple[int, str]], golden_labels: Sequence[str], least_percent: float
) -> Check:
    known = dict(enumerate(golden_labels))
    different = [(picture, label) for picture, label in answered if known.get(picture) != label]
    percent = 100.0 * (len(answered) - len(different)) / max(1, len(answered))
    found = f"{percent:.1f} % of {len(answered)} answers"
    if different:
        picture, label = different[0]
        found += f"; picture {picture}: {label or 'none'}, not {known.get(picture, 'known')}"
    is_ok = bool(answered) and percent >= least_percent
    return Check("labels of the golden file", found, f"at least {least_percent:g} %", is_ok)


def _judge_same(answered: list[tuple[int, str]]) -> Check:
    """Count the answers that are not the most common one for their picture."""
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for picture, label in answered:
        labels[picture][label] += 1
    others = sum(count.total() - count.most_common(1)[0][1] for count in labels.values())
    found, limit = f"{others} of {len(answered)} answers", "0"
    return Check("other label for the same picture", found, limit, bool(answered) and not others)
