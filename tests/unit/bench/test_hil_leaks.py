# SPDX-License-Identifier: Apache-2.0
"""Every kind of leak is found, and noise is none."""

from __future__ import annotations

import mmap
import os
import threading

import numpy as np
import pytest

from perception_node.bench.hil.scenario import LeakLimits
from perception_node.bench.hil.verdict_leaks import fit_slope, judge_drift, judge_process
from perception_node.bench.process_watch import ProcessSample, read_sample

LONG_S = 3600

HELD_MIB = 64
SHORT, RELEASE = LeakLimits(), LeakLimits(memory_mib=20.0, memory_mib_per_h=1.0)


def sample_at(time_s, **fields):
    values = {"own_mib": 150.0, "shared_mib": 36.0, "descriptors": 31, "threads": 18}
    return ProcessSample(time_s=float(time_s), **{**values, **fields})


def run(seconds=60, **growth):
    """Sample once a second; fields grow by so much per second."""
    start = sample_at(0)
    samples = []
    for time_s in range(seconds):
        fields = {name: getattr(start, name) + per_s * time_s for name, per_s in growth.items()}
        whole = {name: int(fields[name]) for name in ("descriptors", "threads") if name in fields}
        samples.append(sample_at(time_s, **{**fields, **whole}))
    return samples


def failed(samples):
    """Return which limits are not kept: those of a release in a long run."""
    limits = RELEASE if len(samples) >= LONG_S else SHORT
    return {check.name for check in judge_process(samples, limits) if not check.is_ok}


@pytest.mark.parametrize("seconds", [12, 60, LONG_S])
def test_a_steady_process_is_fine(seconds):
    assert failed(run(seconds)) == set()


@pytest.mark.parametrize(
    ("seconds", "growth", "row"),
    [
        (60, {"own_mib": 0.3}, "growth of memory, MiB"),
        (12, {"own_mib": 30.0}, "growth of memory, MiB"),
        (60, {"shared_mib": 1.0}, "shared memory, MiB"),
        (60, {"descriptors": 0.05}, "growth of descriptors"),
        (60, {"threads": 0.05}, "growth of threads"),
        (LONG_S, {"own_mib": 1.5 / 3600}, "slope of memory, MiB/h"),
        (LONG_S, {"descriptors": 2 / 3600}, "growth of descriptors"),
    ],
)
def test_a_leak_is_found(seconds, growth, row):
    assert failed(run(seconds, **growth)) == {row}


def test_a_slow_leak_may_not_add_up():
    assert failed(run(24 * 3600, own_mib=0.95 / 3600)) == set()
    assert failed(run(40 * 3600, own_mib=0.95 / 3600)) == {"growth of memory, MiB"}


def test_growth_while_warming_up_is_no_leak():
    cold = [sample_at(time_s, own_mib=50.0 + 10.0 * time_s, threads=3) for time_s in range(12)]
    warm = [sample_at(time_s) for time_s in range(12, 60)]
    assert failed(cold + warm) == set()


def test_a_burst_for_a_moment_is_no_leak():
    samples = run(60)
    for place in (20, 35, 50):
        samples[place] = sample_at(place, own_mib=400.0, descriptors=40, threads=20)
    assert failed(samples) == set()


@pytest.mark.parametrize("samples", [[], run(3)])
def test_a_process_that_was_not_seen_is_not_fine(samples):
    assert failed(samples) == {"process"}


def test_the_slope_withstands_outliers():
    source = np.random.default_rng(1)
    times = np.arange(3000.0)
    values = 0.5 * times + source.normal(0.0, 1.0, times.size)
    values[source.integers(0, times.size, 300)] = 1e6
    assert fit_slope(times, values) == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    ("ages", "last_ms", "is_ok"),
    [
        (600, 149.0, True),  # too few to say
        (3000, 30.0, True),
        (3000, 60.0, False),
        (30_000, 21.5, True),
        (30_000, 24.0, False),
    ],
)
def test_results_must_not_become_older(ages, last_ms, is_ok):
    ages_ms = np.full(ages, 20.0)
    ages_ms[-ages // 3 :] = last_ms
    assert judge_drift(ages_ms).is_ok is is_ok


def test_a_process_can_be_looked_at():
    before = read_sample(os.getpid())
    # Not from malloc, which may have as much in reserve.
    held = mmap.mmap(-1, HELD_MIB << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(HELD_MIB):
        held.write(bytes(1 << 20))
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    pipe = os.pipe()
    after = read_sample(os.getpid())
    gate.set()
    thread.join()
    for descriptor in pipe:
        os.close(descriptor)
    assert after.own_mib - before.own_mib == pytest.approx(HELD_MIB, abs=8)
    assert after.descriptors == before.descriptors + 2
    assert after.threads == before.threads + 1
    assert after.time_s >= before.time_s
