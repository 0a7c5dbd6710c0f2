# SPDX-License-Identifier: Apache-2.0
"""Read a node's log: its account of the frames, and whether it holds only what may be there."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from perception_node.bench.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINE = re.compile(
    r"\[(?P<level>[A-Z]+)\] \[(?P<time_s>\d+\.\d+)\] \[(?:\w+\.)*perception\]: (?P<text>.*)"
)
DROPPED = re.compile(r"frame dropped \((?P<cause>\w+)\): ")
BUG = re.compile(r"Traceback \(most recent call last\)|Segmentation fault|terminate called")
CAUSES = ("stale", "late", "message", "layout", "encoding", "codec", "slow_codec")
EXPECTED = ("model ", "granted: ", "active: waiting for images on ", "frames: received ")
# The clock of the log may be slewed while that of the throttle is not.
SHORTEST_PAUSE_S = 0.95 * 5.0  # LOG_PERIOD_S of the outputs


def find_unexpected(lines: Iterable[str]) -> list[str]:
    """Return the lines that a camera's faults do not explain."""
    return [line for line in lines if line.strip() and not _is_expected(line)]


def find_repeated(lines: Iterable[str]) -> list[str]:
    """Return the causes that were logged more often than once per period."""
    times_s: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if match := LINE.match(line):
            dropped = DROPPED.match(match["text"])
            subject = dropped["cause"] if dropped else match["text"]
            times_s[subject].append(float(match["time_s"]))
    return [
        subject
        for subject, moments_s in times_s.items()
        if any(after - before < SHORTEST_PAUSE_S for before, after in pairwise(moments_s))
    ]


def read_account(lines: Iterable[str]) -> dict[str, int]:
    """Return the last account of the frames by its words; empty if there is none."""
    accounts = [line.partition("frames: ")[2] for line in lines if "frames: received " in line]
    if not accounts:
        return {}
    total = re.sub(r"\([^)]*\)", "", accounts[-1])  # what is malformed, by kind
    return {name: int(number) for name, number in re.findall(r"([a-z][a-z ]*) (\d+)", total)}


def is_balanced(account: dict[str, int]) -> bool:
    """Return whether every frame that was received went exactly one way."""
    ways = sum(number for name, number in account.items() if name != "received")
    return bool(account) and account["received"] == ways and account["in flight"] == 0


def judge_account(name: str, account: dict[str, int]) -> Check:
    """Judge that every frame went exactly one way."""
    found = ", ".join(f"{word} {number}" for word, number in account.items() if number)
    return Check(name, found or "none", "exact, nothing in flight", is_balanced(account))


def judge_tracebacks(name: str, lines: Sequence[str]) -> Check:
    """Judge that the process met no bug; the first one's own words are shown."""
    bugs = [index for index, line in enumerate(lines) if BUG.search(line)]
    found = f"{len(bugs)}: {_last_line(lines[bugs[0] :])}" if bugs else "0"
    return Check(name, found, "0", not bugs)


def _last_line(traceback: Sequence[str]) -> str:
    """Return the line that says what was raised: as far to the left as the first one."""
    first, *rest = traceback
    margin = first[: len(first) - len(first.lstrip())]
    ends = (
        line for line in rest if line.startswith(margin) and not line[len(margin) :][:1].isspace()
    )
    return next(ends, first).strip()


def _is_expected(line: str) -> bool:
    match = LINE.match(line)
    if match is None:
        return False
    dropped = DROPPED.match(match["text"])
    return dropped["cause"] in CAUSES if dropped else match["text"].startswith(EXPECTED)
