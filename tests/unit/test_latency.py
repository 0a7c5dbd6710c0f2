# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.latency import WINDOW, AgeSummary, AgeWindow, FrameTrace

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


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=2 * WINDOW + 3))
def test_the_summary_is_of_the_last_results(ages_ns):
    known_ms = np.array(ages_ns[-WINDOW:]) / 1e6
    summary = summarize(ages_ns)
    assert summary.p50_ms == pytest.approx(np.percentile(known_ms, 50), abs=1e-6)
    assert summary.p99_ms == pytest.approx(np.percentile(known_ms, 99), abs=1e-6)
    assert summary.max_ms == known_ms.max()


def test_an_old_outlier_is_forgotten():
    assert summarize([900 * MS] + [10 * MS] * (WINDOW - 1)).max_ms == 900.0
    assert summarize([900 * MS] + [10 * MS] * WINDOW) == AgeSummary(10.0, 10.0, 10.0)


def test_a_trace_begins_with_nothing_reached():
    trace = FrameTrace()
    assert (trace.outcome, trace.frame_id, trace.age_ns) == ("", "", None)
    stages = [name for name in FrameTrace.__slots__ if name.endswith("_ns") and name != "age_ns"]
    assert {getattr(trace, name) for name in stages} == {0}
