# SPDX-License-Identifier: Apache-2.0
"""Judge a siege: each row says what was found and what would have been right."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from perception_node.bench.check import Check
from perception_node.bench.node_log import LINE, is_balanced, judge_tracebacks, read_account
from perception_node.bench.siege.record import RECOVERY_S, SECOND_NS

if TYPE_CHECKING:
    from perception_node.bench.siege.record import Calm, SiegeRecord, Subject

LONGEST_SILENCE_NS = SECOND_NS
MOST_UNJUDGED = 0.25  # of the calm time, in which this machine kept the siege itself from asking
MOST_MEMORY = 1.5  # times what it has in calm
# The type support of ROS writes one of these for each malformed request; it cannot be held back.
OF_ROS = ("sequence size exceeds remaining buffer", "failed to create array for field")
MOST_LINES_PER_MIN = 300  # each cause at most once in 5 s, and a few lines per transition
LONGEST_LINE = 2000
MOST_LEAKED = 2  # descriptors of a peer that is just being found or forgotten
Spans = list[tuple[int, int]]


def judge(record: SiegeRecord) -> dict[str, list[Check]]:
    """Judge everything; return the rows of each process, and of the siege itself."""
    calms = record.calms()
    broken = "; ".join(record.broken) or "none"
    seconds = sum(calm.end_ns - calm.begin_ns for calm in calms) / SECOND_NS
    return {
        **{one.name: judge_subject(one, record, calms) for one in record.subjects},
        "siege": [
            Check("attacks that went wrong", broken, "none", not record.broken),
            Check("calm seconds that were judged", f"{seconds:.0f}", "more than 0", seconds > 0),
        ],
    }


def judge_subject(subject: Subject, record: SiegeRecord, calms: list[Calm]) -> list[Check]:
    """Judge what was seen of one process."""
    held_up = merge([*subject.held_up, *record.busy])
    rows = [
        judge_exit(subject, record),
        judge_silence(subject, calms, held_up),
        judge_asking(calms, held_up),
        judge_answers(subject),
        judge_memory(subject),
        *judge_leaks(subject, calms),
        *judge_log(subject, record),
    ]
    if subject.frames:
        rows += [*judge_account(subject), judge_ages(subject)]
    return rows


def judge_exit(subject: Subject, record: SiegeRecord) -> Check:
    """Judge that it lived to the end, and then ended as it was asked to."""
    ended = subject.ended
    if ended is not None:
        after_s = (ended.time_ns - record.begin_ns) / SECOND_NS
        found = (
            f"ended with code {ended.code} after {after_s:.0f} s in or after "
            f"{record.phase_at(ended.time_ns)}: {ended.last_line}"
        )
        return Check("exit", found, "none", is_ok=False)
    found = f"code {subject.exit_code} at the end"
    return Check("exit", found, "code 0 at the end", subject.exit_code == 0)


def judge_silence(subject: Subject, calms: list[Calm], held_up: Spans) -> Check:
    """Find the longest time without a right answer in a calm time.

    Time in which the siege itself could not ask, or other programs took the processors, is no
    silence; see ``judge_asking``.
    """
    longest_ns, where = 0, ""
    for calm in calms:
        inside = [t for t in subject.answers_ns if calm.begin_ns < t < calm.end_ns]
        for begin_ns, end_ns in pairwise([calm.begin_ns, *inside, calm.end_ns]):
            silent_ns = end_ns - begin_ns - _overlap_ns(held_up, begin_ns, end_ns)
            if silent_ns > longest_ns:
                longest_ns, where = silent_ns, str(calm.after)
    limit = f"at most 1 s, from {RECOVERY_S:g} s after an attack on"
    found = f"{longest_ns / SECOND_NS:.2f} s" + (f" after {where}" if where else "")
    is_ok = longest_ns <= LONGEST_SILENCE_NS and bool(subject.answers_ns)
    return Check("longest silence in calm", found, limit, is_ok)


def judge_asking(calms: list[Calm], held_up: Spans) -> Check:
    """Judge that the machine let the siege ask, and be answered: else it proves nothing."""
    calm_ns = sum(calm.end_ns - calm.begin_ns for calm in calms)
    held_ns = sum(_overlap_ns(held_up, calm.begin_ns, calm.end_ns) for calm in calms)
    share = held_ns / max(1, calm_ns)
    what, limit = "calm time that cannot be judged", f"at most {MOST_UNJUDGED:.0%}"
    return Check(what, f"{share:.0%}", limit, share <= MOST_UNJUDGED)


def judge_answers(subject: Subject) -> Check:
    """Judge that each good picture had its own label, and no damaged one any."""
    kinds = ", ".join(f"{number} {what}" for what, number in sorted(subject.wrong.items()))
    found = f"{len(subject.answers_ns)} right" + (f", {kinds}" if kinds else "")
    is_ok = bool(subject.answers_ns) and not subject.wrong
    return Check("answers", found, "only right ones", is_ok)


def judge_memory(subject: Subject) -> Check:
    """Compare the peak with the memory of the calm, less what others put into shared segments."""
    shared = [sample.shared_mib for _, sample in subject.samples] or [0.0]
    others_mib = max(shared) - shared[0]
    phase, peak_mib = max(subject.peaks, key=lambda peak: peak[1], default=(None, 0.0))
    limit_mib = MOST_MEMORY * subject.calm_mib
    found = f"{peak_mib - others_mib:.0f}" + (f" in or after {phase}" if phase else "")
    limit = f"at most {limit_mib:.0f}, {MOST_MEMORY:g} times that of the calm"
    return Check("memory, MiB", found, limit, bool(phase) and peak_mib - others_mib <= limit_mib)


def judge_leaks(subject: Subject, calms: list[Calm]) -> list[Check]:
    """Compare descriptors and threads of the first calm time with those of the last."""
    parts = [
        [sample for time_ns, sample in subject.samples if calm.begin_ns <= time_ns <= calm.end_ns]
        for calm in calms
    ]
    parts = [part for part in parts if part]
    if not parts:
        return [Check("looks at it in calm", "none", "at least one", is_ok=False)]
    rows = []
    for what in ("descriptors", "threads"):
        first, last = (median(getattr(s, what) for s in part) for part in (parts[0], parts[-1]))
        limit = f"at most {first + MOST_LEAKED:g}"
        rows.append(Check(what, f"{last:g}", limit, last <= first + MOST_LEAKED))
    return rows


def judge_log(subject: Subject, record: SiegeRecord) -> list[Check]:
    """Judge that the log is short and that nothing in it is a bug."""
    minutes = max(1.0, (record.end_ns - record.begin_ns) / 60 / SECOND_NS)
    lines = sum(not line.startswith(OF_ROS) for line in subject.log)
    longest = max(map(len, subject.log), default=0)
    found = f"{lines / minutes:.0f}, of at most {longest} characters"
    limit = f"at most {MOST_LINES_PER_MIN}, of {LONGEST_LINE}"
    is_ok = lines <= MOST_LINES_PER_MIN * minutes and longest <= LONGEST_LINE
    return [
        Check("lines of log per minute", found, limit, is_ok),
        judge_tracebacks("tracebacks", subject.log),
    ]


def judge_account(subject: Subject) -> list[Check]:
    """Judge each account that the node has logged, and the last against what was heard."""
    accounts = [line for line in subject.log if LINE.match(line) and "frames: received " in line]
    broken = [line for line in accounts if not is_balanced(read_account([line]))]
    last = read_account(accounts)
    words = ", ".join(f"{name} {number}" for name, number in last.items() if number)
    found = f"not exact: {broken[0].partition('frames: ')[2]}" if broken else words or "none"
    published = last.get("published", -1)
    heard = f"{subject.published} of {published} published"
    return [
        Check("account", found, "exact, nothing in flight", bool(accounts) and not broken),
        Check("results heard", heard, "not more", subject.published <= published),
    ]


def judge_ages(subject: Subject) -> Check:
    """Judge that no result was older than the deadline, as the node states its age."""
    oldest = max(subject.ages_ms, default=-1.0)
    found = f"{oldest:.1f} of {len(subject.ages_ms)}" if subject.ages_ms else "none"
    limit = f"at most {subject.deadline_ms:g}"
    is_ok = bool(subject.ages_ms) and oldest <= subject.deadline_ms
    return Check("age of the oldest result, ms", found, limit, is_ok)


def merge(spans: Spans) -> Spans:
    """Return the same times without overlaps."""
    merged: Spans = []
    for begin_ns, end_ns in sorted(spans):
        if merged and begin_ns <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end_ns)
        else:
            merged.append((begin_ns, end_ns))
    return merged


def _overlap_ns(spans: Spans, begin_ns: int, end_ns: int) -> int:
    return sum(max(0, min(b, end_ns) - max(a, begin_ns)) for a, b in spans)
