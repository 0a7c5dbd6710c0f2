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


def sweep(measure, lowest_hz=LOWEST, highest_hz=HIGHEST, confirm=None):
    """Return what a sweep finds, the rates of its short runs and those of its longer ones."""
    short_hz, longer_hz = [], []

    def note(rates_hz, run):
        return lambda rate_hz: rates_hz.append(rate_hz) or run(rate_hz)

    steps = note(short_hz, measure), note(longer_hz, confirm or measure)
    return find_highest_rate(steps[0], lowest_hz, highest_hz, steps[1]), short_hz, longer_hz


def subject(limit_hz):
    """Return what keeps every rate up to a limit and then drops what is too much."""
    return lambda rate_hz: make_run(100 * max(0.0, 1 - limit_hz / rate_hz) + (rate_hz > limit_hz))


@given(st.floats(LOWEST, HIGHEST))
def test_the_limit_is_found_to_the_resolution(limit_hz):
    result, short_hz, longer_hz = sweep(subject(limit_hz))
    assert result.rate_hz <= limit_hz <= result.rate_hz * RESOLUTION * 1.01
    assert len(short_hz + longer_hz) < 30
    assert longer_hz[-1] == result.rate_hz
    assert result.run is not None
    assert result.is_highest == (limit_hz < HIGHEST)


def test_none_is_found_where_the_lowest_fails():
    result, short_hz, longer_hz = sweep(subject(4.0))
    assert (result.rate_hz, result.run) == (0.0, None)
    assert (set(short_hz), longer_hz) == ({LOWEST}, [])


def test_the_highest_is_not_exceeded():
    result, short_hz, longer_hz = sweep(subject(5000.0))
    assert result.rate_hz == HIGHEST
    assert not result.is_highest
    assert (short_hz, longer_hz) == ([LOWEST, HIGHEST], [HIGHEST])


def test_a_single_rate_is_measured_and_confirmed():
    result, *rates_hz = sweep(subject(50.0), 30.0, 30.0)
    assert (result.rate_hz, rates_hz) == (30.0, [[30.0], [30.0]])


def test_a_longer_run_has_the_last_word():
    short, longer = subject(100.0), subject(80.0)
    result, _, confirmations = sweep(short, confirm=longer)
    assert 80.0 / RESOLUTION <= result.rate_hz <= 80.0
    assert confirmations == sorted(confirmations, reverse=True)
    assert len(confirmations) > 1


def test_no_rate_is_confirmed_where_no_longer_run_succeeds():
    result, _, longer_hz = sweep(subject(20.0), confirm=subject(1.0))
    assert (result.rate_hz, result.run) == (0.0, None)
    assert longer_hz[-1] == LOWEST


def test_one_hiccup_does_not_decide():
    runs = []

    def measure(rate_hz):
        runs.append(rate_hz)
        return make_run(3.0) if len(runs) in {1, 4} else subject(100.0)(rate_hz)

    result, *_ = sweep(measure)
    assert result.rate_hz == pytest.approx(100.0, rel=0.03)


def test_one_percent_is_too_much():
    assert sweep(lambda _: make_run(1.0), 10.0, 20.0)[0].rate_hz == 0.0
    assert sweep(lambda _: make_run(0.9), 10.0, 20.0)[0].rate_hz == 20.0


def test_a_camera_that_is_too_slow_proves_nothing():
    def measure(rate_hz):
        return make_run(0.0, f"{TOO_SLOW} 60 of 70") if rate_hz > 60.0 else make_run(0.0)

    assert sweep(measure)[0].rate_hz == pytest.approx(60.0, rel=0.03)


@pytest.mark.parametrize("rates", [(0.0, 10.0), (20.0, 10.0), (1.0, float("inf"))])
def test_rates_must_be_in_order(rates):
    with pytest.raises(ConfigError, match="--sweep: rates must be in order"):
        sweep(subject(10.0), *rates)


def test_probes_are_short_but_not_too_short():
    assert count_probe_frames(10.0) == 150
    assert count_probe_frames(100.5) == 503
