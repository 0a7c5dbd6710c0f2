# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.flow.camera import FrameTrace
from perception_node.flow.deadline import AGES, BINS, AgeSummary, AgeWindow

MS = 1_000_000


def summarize(ages_ns):
    window = AgeWindow()
    for age_ns in ages_ns:
        window.add(age_ns)
    return window.summarize()


def test_there_is_no_summary_before_the_first_result():
    assert AgeWindow().summarize() is None


def test_one_result_is_all_of_it():
    assert summarize([12_500_000]) == AgeSummary(12.5, 12.5, 12.5)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=2 * AGES + 3))
def test_the_summary_is_of_the_last_results(ages_ns):
    known_ms = np.array(ages_ns[-AGES:]) / 1e6
    summary = summarize(ages_ns)
    assert summary.p50_ms == pytest.approx(np.percentile(known_ms, 50), abs=1e-6)
    assert summary.p99_ms == pytest.approx(np.percentile(known_ms, 99), abs=1e-6)
    assert summary.max_ms == known_ms.max()


def test_an_old_outlier_is_forgotten():
    assert summarize([900 * MS] + [10 * MS] * (AGES - 1)).max_ms == 900.0
    assert summarize([900 * MS] + [10 * MS] * AGES) == AgeSummary(10.0, 10.0, 10.0)


def histogram(ages_ns, end_ns):
    window = AgeWindow()
    for age_ns in ages_ns:
        window.add(age_ns)
    return window.histogram(end_ns)


def test_there_is_no_histogram_before_the_first_result():
    assert AgeWindow().histogram(100 * MS) is None


def test_the_bins_end_at_the_deadline_and_the_last_takes_what_is_beyond():
    ages_ns = [0, 2 * MS - 1, 2 * MS, 99 * MS, 100 * MS, 900 * MS, -5 * MS]
    bin_ms, counts = histogram(ages_ns, 100 * MS)
    assert bin_ms == 2.0
    assert (counts[0], counts[1], counts[-1]) == (3, 1, 3)
    assert len(counts) == BINS


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=2 * AGES),
    st.integers(MS, 60_000 * MS),
)
def test_the_histogram_holds_the_last_results(ages_ns, end_ns):
    bin_ms, counts = histogram(ages_ns, end_ns)
    assert bin_ms * BINS == pytest.approx(end_ns / 1e6)
    assert sum(counts) == min(len(ages_ns), AGES)
    first = sum(age_ns * BINS < end_ns for age_ns in ages_ns[-AGES:])
    assert counts[0] == first


def test_a_trace_begins_with_nothing_reached():
    trace = FrameTrace()
    assert (trace.outcome, trace.frame_id, trace.age_ns) == ("", "", None)
    stages = [name for name in FrameTrace.__slots__ if name.endswith("_ns") and name != "age_ns"]
    assert {getattr(trace, name) for name in stages} == {0}
