# SPDX-License-Identifier: Apache-2.0
"""The bisection finds a limit that it does not know, and believes no lucky run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.bench.levels.node_run import TOO_SLOW
from perception_node.bench.levels.sweep import RESOLUTION, count_probe_frames, find_highest_rate
from perception_node.bench.reporting.measurement import Run
from perception_node.errors import ConfigError

LOWEST, HIGHEST = 5.0, 1000.0


def make_run(missed_percent: float, *remarks: str) -> Run:
    return Run("node", {}, {"sent": 1000, "missed": round(10 * missed_percent)}, remarks=remarks)


def subject(limit_hz):
    """Return what keeps every rate up to a limit and then drops what is too much."""
    return lambda rate_hz: make_run(100 * max(0.0, 1 - limit_hz / rate_hz) + (rate_hz > limit_hz))


@given(st.floats(LOWEST, HIGHEST))
def test_the_limit_is_found_to_the_resolution(limit_hz):
    result = find_highest_rate(subject(limit_hz), LOWEST, HIGHEST)
    assert result.rate_hz <= limit_hz <= result.rate_hz * RESOLUTION * 1.01
    assert len(result.probes) < 30
    assert result.probes[-1].is_confirmation
    assert result.is_highest == (limit_hz < HIGHEST)


def test_none_is_found_where_the_lowest_fails():
    result = find_highest_rate(subject(4.0), LOWEST, HIGHEST)
    assert result.rate_hz == 0.0
    assert not any(probe.is_kept for probe in result.probes)


def test_the_highest_is_not_exceeded():
    result = find_highest_rate(subject(5000.0), LOWEST, HIGHEST)
    assert result.rate_hz == HIGHEST
    assert not result.is_highest
    assert len(result.probes) == 3


def test_a_single_rate_is_measured_and_confirmed():
    result = find_highest_rate(subject(50.0), 30.0, 30.0)
    assert (result.rate_hz, len(result.probes)) == (30.0, 2)


def test_a_longer_run_has_the_last_word():
    short, longer = subject(100.0), subject(80.0)
    result = find_highest_rate(short, LOWEST, HIGHEST, longer)
    assert 80.0 / RESOLUTION <= result.rate_hz <= 80.0
    confirmations = [probe.rate_hz for probe in result.probes if probe.is_confirmation]
    assert confirmations == sorted(confirmations, reverse=True)
    assert len(confirmations) > 1


def test_no_rate_is_confirmed_where_no_longer_run_succeeds():
    result = find_highest_rate(subject(20.0), LOWEST, HIGHEST, subject(1.0))
    assert result.rate_hz == 0.0
    assert result.probes[-1].rate_hz == LOWEST


def test_one_hiccup_does_not_decide():
    runs = []

    def measure(rate_hz):
        runs.append(rate_hz)
        return make_run(3.0) if len(runs) in {1, 4} else subject(100.0)(rate_hz)

    result = find_highest_rate(measure, LOWEST, HIGHEST)
    assert result.rate_hz == pytest.approx(100.0, rel=0.03)


def test_one_percent_is_too_much():
    assert find_highest_rate(lambda _: make_run(1.0), 10.0, 20.0).rate_hz == 0.0
    assert find_highest_rate(lambda _: make_run(0.9), 10.0, 20.0).rate_hz == 20.0


def test_a_camera_that_is_too_slow_proves_nothing():
    def measure(rate_hz):
        return make_run(0.0, f"{TOO_SLOW} 60 of 70") if rate_hz > 60.0 else make_run(0.0)

    assert find_highest_rate(measure, LOWEST, HIGHEST).rate_hz == pytest.approx(60.0, rel=0.03)


@pytest.mark.parametrize("rates", [(0.0, 10.0), (20.0, 10.0), (1.0, float("inf"))])
def test_rates_must_be_in_order(rates):
    with pytest.raises(ConfigError, match="--sweep: rates must be in order"):
        find_highest_rate(subject(10.0), *rates)


def test_probes_are_short_but_not_too_short():
    assert count_probe_frames(10.0) == 150
    assert count_probe_frames(100.5) == 503
