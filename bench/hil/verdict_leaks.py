# SPDX-License-Identifier: Apache-2.0
"""Judge what a node may use after hours of faults: no more memory, files, threads or time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perception_node.bench.check import Check, at_most
from perception_node.bench.node_log import find_repeated, find_unexpected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import LeakLimits, Scenario
    from perception_node.bench.process_watch import ProcessSample

WARM_UP_SHARE, LONGEST_WARM_UP_S = 0.25, 300.0
BLOCKS = 200
QUARTER = 4
FEWEST_SAMPLES = 4
ENOUGH_AGES = 1000  # per third: the 99th percentile then has ten above it
MANY_AGES = 10_000


def judge_leaks(scenario: Scenario, record: HilRecord, calm: NDArray[np.bool_]) -> list[Check]:
    """Judge what the node has used, how old its results were, and what it has logged."""
    expect = scenario.expect
    checks = [] if expect.leaks is None else judge_process(record.samples, expect.leaks)
    ages_ms = np.array([age.age_ms for age in record.ages], np.float64)
    if expect.steady_ages:
        sent = zip(record.sent, calm, strict=True)
        calm_ns = {frame.stamp_ns for frame, is_calm in sent if is_calm}
        is_calm = np.array([age.stamp_ns in calm_ns for age in record.ages], np.bool_)
        checks.append(judge_drift(ages_ms[is_calm]))
    if expect.published_age_ms is not None:
        checks.append(_judge_oldest(ages_ms, expect.published_age_ms))
    if expect.expected_log:
        checks += _judge_log(record.log)
    return checks


def judge_process(samples: Sequence[ProcessSample], limits: LeakLimits) -> list[Check]:
    """Judge memory, descriptors and threads after the warm-up."""
    settled = _after_warm_up(samples)
    if len(settled) < FEWEST_SAMPLES:
        found = f"{len(settled)} samples after the warm-up"
        return [Check("process", found, f"at least {FEWEST_SAMPLES}", is_ok=False)]
    own_mib = np.array([sample.own_mib for sample in settled])
    checks = [at_most("growth of memory, MiB", _growth(own_mib), limits.memory_mib)]
    if limits.memory_mib_per_h is not None:
        times_h = np.array([sample.time_s for sample in settled]) / 3600.0
        slope = fit_slope(times_h, own_mib)
        checks.append(at_most("slope of memory, MiB/h", slope, limits.memory_mib_per_h))
    shared_mib = max(sample.shared_mib for sample in settled)
    checks.append(at_most("shared memory, MiB", shared_mib, limits.shared_mib))
    for what in ("descriptors", "threads"):
        counts = np.array([getattr(sample, what) for sample in settled], float)
        checks.append(at_most(f"growth of {what}", _growth(counts), getattr(limits, what)))
    return checks


def judge_drift(ages_ms: NDArray[np.float64]) -> Check:
    """Compare the 99th percentile of ages, in order, in the last third and in the first."""
    what = "p99 of ages, last third"
    third = len(ages_ms) // 3
    if third < ENOUGH_AGES:
        return Check(what, f"{third} ages", f"judged from {ENOUGH_AGES} on", is_ok=True)
    first_ms, last_ms = (
        float(np.percentile(part, 99)) for part in (ages_ms[:third], ages_ms[-third:])
    )
    limit_ms = first_ms * 1.1 + 1.0 if third >= MANY_AGES else first_ms * 1.5 + 20.0
    limit = f"at most {limit_ms:.1f} ms (first third: {first_ms:.1f})"
    return Check(what, f"{last_ms:.1f} ms", limit, last_ms <= limit_ms)


def _judge_oldest(ages_ms: NDArray[np.float64], limit_ms: float) -> Check:
    """Judge the ages that ~/latency states: what the node itself has promised."""
    oldest = f"{ages_ms.max():.1f}" if ages_ms.size else "none"
    is_ok = bool(ages_ms.size) and float(ages_ms.max()) <= limit_ms
    return Check("age of the oldest result, ms", oldest, f"at most {limit_ms:g}", is_ok)


def _judge_log(log: Sequence[str]) -> list[Check]:
    unexpected, repeated = find_unexpected(log), find_repeated(log)
    found = f"{len(unexpected)}, such as {unexpected[0]}" if unexpected else "0"
    often = ", ".join(repeated) or "none"
    return [
        Check("unexpected log lines", found, "0", not unexpected),
        Check("logged more than once in 5 s", often, "none", not repeated),
    ]


def fit_slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the median slope between any two of at most 200 block medians (Theil and Sen)."""
    blocks = np.array_split(np.arange(len(times)), min(BLOCKS, len(times)))
    x = np.array([np.median(times[block]) for block in blocks])
    y = np.array([np.median(values[block]) for block in blocks])
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def _after_warm_up(samples: Sequence[ProcessSample]) -> Sequence[ProcessSample]:
    if not samples:
        return samples
    begin_s, end_s = samples[0].time_s, samples[-1].time_s
    warm_up_s = min(WARM_UP_SHARE * (end_s - begin_s), LONGEST_WARM_UP_S)
    return [sample for sample in samples if sample.time_s >= begin_s + warm_up_s]


def _growth(values: NDArray[np.float64]) -> float:
    """Return the median of the last quarter less that of the first."""
    quarter = max(1, len(values) // QUARTER)
    return float(np.median(values[-quarter:]) - np.median(values[:quarter]))
