# SPDX-License-Identifier: Apache-2.0
"""Compare a replay with a golden file: the same frames, the same classes, the same scores.

Another CPU or OpenCV rounds differently, so scores may differ by a tolerance, and two classes
may change places where their scores are that close.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from perception_node.replay.tolerance import EXACT, IGNORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perception_node.replay.tolerance import Tolerance

Record = dict[str, Any]
MISSING, ADDITIONAL = "frame is missing", "frame is not in the golden file"
HEADER, DROPPED = "another topic, time, stamp or frame_id", "dropped, or for another reason"
BEST, NUMBER = "another best class", "more or fewer results"
OTHERS, SCORE = "other classes below the best", "scores beyond the tolerance"
KINDS = (MISSING, ADDITIONAL, HEADER, DROPPED, BEST, NUMBER, OTHERS, SCORE)
ROUNDING = 1e-3  # of a sum of scores
ALWAYS_KNOWN = ("topic", "time_ns")  # a dropped frame has neither stamp nor frame_id


class Difference(NamedTuple):
    """A frame that is not as the golden file has it.

    Attributes:
        number: of the frame, from 1.
        kind: what differs, in words; one of ``KINDS``.
        expected: the golden file's record; None if it has none.
        found: the replay's record; None if it has none.

    """

    number: int
    kind: str
    expected: Record | None
    found: Record | None

    @property
    def topic(self) -> str:
        """The image topic, as it was found."""
        return str((self.found or self.expected or {}).get("topic"))

    def __str__(self) -> str:
        """Return one readable line."""
        if self.expected is None:
            return f"frame {self.number}: not in the golden file: {describe(self.found or {})}"
        known = describe(self.expected)
        if self.found is None:
            return f"frame {self.number}: missing, the golden file has {known}"
        found = describe(self.found)
        why = f" ({self.kind})" if found == known else ""  # what differs is not in the words
        return f"frame {self.number}: expected {known}, found {found}{why}"


def compare(
    golden: Iterable[Record], found: Iterable[Record], tolerance: Tolerance
) -> Iterator[Difference]:
    """Yield the frames that differ by more than ``tolerance`` allows; ``str()`` is a line."""
    for number, (expected, actual) in enumerate(zip_longest(golden, found), start=1):
        if expected is None:
            kind = ADDITIONAL
        elif actual is None:
            kind = MISSING
        else:
            kind = _find_difference(expected, actual, tolerance)
        if kind:
            yield Difference(number, kind, expected, actual)


def _find_difference(expected: Record, actual: Record, tolerance: Tolerance) -> str:
    """Return what differs between two records; empty if nothing does."""
    has_dropped = "dropped" in expected or "dropped" in actual
    for key in tolerance.identity:
        if has_dropped and key not in ALWAYS_KNOWN:
            continue
        if expected.get(key) != actual.get(key):
            return HEADER
    if has_dropped:
        is_same = expected.get("dropped") == actual.get("dropped")
        return "" if is_same or tolerance.dropped == IGNORE else DROPPED
    known, found = expected.get("results", []), actual.get("results", [])
    if _has_same_results(known, found, tolerance):
        return ""
    return _name_difference(known[: tolerance.top or None], found[: tolerance.top or None])


def _has_same_results(all_known: list[Record], found: list[Record], tolerance: Tolerance) -> bool:
    known, found = all_known[: tolerance.top or None], found[: tolerance.top or None]
    if len(known) != len(found):
        return False
    return all(
        abs(here["score"] - result["score"]) <= tolerance.score
        and (tolerance.order != EXACT or _is_class(here, result))
        and _could_be(result, all_known, tolerance.score)
        for here, result in zip(known, found, strict=True)
    )


def _could_be(result: Record, known: list[Record], tolerance: float) -> bool:
    """Tell whether the golden results of a frame allow this class to have this score."""
    for one in known:
        if one["class_id"] == result["class_id"]:
            is_close = abs(one["score"] - result["score"]) <= tolerance
            return is_close and _is_class(one, result)
    # A class that is not listed scored no more than the last one, nor than the others leave over,
    # unless scores are independent (multi-label): then they may add up to more than 1.
    scores = [one["score"] for one in known]
    left = 1.0 - sum(scores)
    limit = scores[-1] if left < -ROUNDING else min(scores[-1], left)
    return bool(result["score"] <= limit + tolerance)


def _is_class(one: Record, other: Record) -> bool:
    return bool(one["class_id"] == other["class_id"] and one["label"] == other["label"])


def _name_difference(known: list[Record], found: list[Record]) -> str:
    """Return what differs most between results that are not the same."""
    if known and found and not _is_class(known[0], found[0]):
        return BEST
    if len(known) != len(found):
        return NUMBER
    is_permuted = all(any(_is_class(k, f) for k in known) for f in found)
    return SCORE if is_permuted else OTHERS


def describe(record: Record) -> str:
    """Return a record in a few words: topic, stamp, and the best three results or why dropped."""
    where = f"{record.get('topic')} at {record.get('stamp_ns')}"
    if "dropped" in record:
        return f"{where} dropped ({record['dropped']})"
    results = ", ".join(f"{r['label']} {r['score']:.4f}" for r in record.get("results", [])[:3])
    return f"{where}: {results or 'no result'}"
