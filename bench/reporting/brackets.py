# SPDX-License-Identifier: Apache-2.0
"""Turns of a case, and bare inference around each: what the machine could do at that time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from perception_node.bench.reporting.measurement import INFER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.bench.reporting.measurement import Case, Run

STEADY_CHANGE = 0.15


def split_turns(case: Case) -> list[dict[str, Run]]:
    """Return the runs of each turn by their subject; ``bare`` is the faster one around the turn.

    A turn ends where bare inference, or a subject that it has already, comes next.
    """
    turns: list[dict[str, Run]] = []
    is_open = False
    for place, run in enumerate(case.runs):
        if run.subject == "bare":
            is_open = False
            continue
        if not is_open or run.subject in turns[-1]:
            bare = _bracket(case, place)
            turns.append({"bare": min(bare, key=_infer_ms)} if bare else {})
        turns[-1][run.subject] = run
        is_open = True
    return turns


def _bracket(case: Case, place: int) -> list[Run]:
    """Return the last bare run before a place and the first after it, where there are any."""
    before = [run for run in case.runs[:place] if run.subject == "bare"]
    after = [run for run in case.runs[place + 1 :] if run.subject == "bare"]
    return [run for run in before[-1:] + after[:1] if INFER in run.stages]


def find_remarks(case: Case) -> list[str]:
    """Return why runs of a case are not to be trusted, one line for each reason."""
    found: dict[str, list[str]] = {}
    for subject in case.subjects:
        places = [place for place, run in enumerate(case.runs) if run.subject == subject]
        for number, place in enumerate(places, 1):
            for remark in (*case.runs[place].remarks, *_remark_on_bare(case, place)):
                found.setdefault(remark, []).append(f"{subject} {number}")
    return [f"{', '.join(runs)}: {remark}" for remark, runs in found.items()]


def _remark_on_bare(case: Case, place: int) -> Iterable[str]:
    around = [] if case.runs[place].subject == "bare" else _bracket(case, place)
    for before_ms, after_ms in pairwise(map(_infer_ms, around)):
        change = after_ms / before_ms - 1.0 if before_ms > 0 else math.nan
        if abs(change) > STEADY_CHANGE:
            yield f"bare inference changed by {change:+.0%} from before to after"


def _infer_ms(bare: Run) -> float:
    return bare.stages[INFER].percentile_ms(50)
