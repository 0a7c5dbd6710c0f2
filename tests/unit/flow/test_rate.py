# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.flow.accounts import INTERVALS, RateMeter
from perception_node.flow.deadline import RateLimit

SECOND = 1_000_000_000
BOOT = 5 * SECOND


def let_through(times_ns, max_rate_hz):
    limit = RateLimit()
    return [now_ns for now_ns in times_ns if limit.admits(now_ns, max_rate_hz)]


def regular(rate_hz, seconds):
    return [BOOT + int(number * SECOND / rate_hz) for number in range(int(rate_hz * seconds))]


# The limit


def test_a_rate_of_0_sets_no_limit():
    assert len(let_through([BOOT] * 1000, 0.0)) == 1000


@pytest.mark.parametrize("now_ns", [0, 1, BOOT])
@pytest.mark.parametrize("max_rate_hz", [1e-300, 0.001, 1.0, 1000.0])
def test_the_first_image_is_let_through(now_ns, max_rate_hz):
    assert RateLimit().admits(now_ns, max_rate_hz)


@given(
    st.lists(st.integers(0, SECOND), min_size=1, max_size=100),
    st.floats(0.5, 1000.0),
    st.integers(0, 20),
)
def test_no_window_holds_more_than_its_share(gaps_ns, max_rate_hz, burst):
    times_ns, now_ns = [], BOOT
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        times_ns += [now_ns] * (burst + 1)
    admitted = let_through(times_ns, max_rate_hz)
    for first, begin_ns in enumerate(admitted):
        for last in range(first, len(admitted)):
            window_s = (admitted[last] - begin_ns) / SECOND
            # Two more: both ends count, and one may have waited for its image.
            assert last - first + 1 <= window_s * max_rate_hz * (1 + 1e-6) + 2


@pytest.mark.parametrize("camera_hz", [15.0, 20.0, 29.97, 30.0, 31.0, 60.0, 100.0])
@pytest.mark.parametrize("max_rate_hz", [1.0, 3.0, 7.0, 10.0, 14.9])
def test_the_average_is_kept_when_the_camera_is_no_multiple(camera_hz, max_rate_hz):
    admitted = let_through(regular(camera_hz, 60), max_rate_hz)
    assert 60 * max_rate_hz - 1 <= len(admitted) <= 60 * max_rate_hz + 2


@pytest.mark.parametrize("camera_hz", [1.0, 9.9, 10.0])
def test_a_camera_that_is_slower_loses_nothing(camera_hz):
    times_ns = regular(camera_hz, 60)
    assert let_through(times_ns, 10.0) == times_ns


def test_a_pause_is_not_made_up_for():
    times_ns = regular(100, 1) + [now_ns + 60 * SECOND for now_ns in regular(100, 1)]
    assert len(let_through(times_ns, 10.0)) <= 2 * 11


def test_a_higher_rate_counts_at_once():
    limit = RateLimit()
    assert limit.admits(BOOT, 0.001)
    assert not limit.admits(BOOT + SECOND, 0.001)
    assert limit.admits(BOOT + SECOND + 1, 10.0)


def test_a_limit_that_is_set_counts_from_the_last_image():
    limit = RateLimit()
    assert limit.admits(BOOT, 0.0)
    assert not limit.admits(BOOT + SECOND // 2, 1.0)
    assert limit.admits(BOOT + SECOND, 1.0)


@pytest.mark.parametrize("max_rate_hz", [5e-324, 1e-300])
def test_next_to_nothing_is_a_rate_too(max_rate_hz):
    assert len(let_through(regular(100, 10), max_rate_hz)) <= 2


# The meter


def test_no_rate_before_the_second_image():
    meter = RateMeter()
    assert meter.rate_hz(BOOT) is None
    meter.tick(BOOT)
    assert meter.rate_hz(BOOT + SECOND) is None
    meter.tick(BOOT + SECOND // 4)
    assert meter.rate_hz(BOOT + SECOND // 4) == 4.0


def test_the_last_ten_intervals_count():
    meter, now_ns = RateMeter(), BOOT
    for interval_ns in [SECOND] * 5 + [SECOND // 50] * INTERVALS:
        now_ns += interval_ns
        meter.tick(now_ns)
    assert meter.rate_hz(now_ns) == 50.0


def test_jitter_is_averaged():
    meter = RateMeter()
    for now_ms in (0, 90, 200, 310, 400):
        meter.tick(BOOT + now_ms * 1_000_000)
    assert meter.rate_hz(BOOT + 400_000_000) == 10.0


def test_the_rate_falls_while_nothing_comes():
    meter = RateMeter()
    for now_ns in regular(10, 1):
        meter.tick(now_ns)
    last_ns = regular(10, 1)[-1]
    assert meter.rate_hz(last_ns + SECOND // 10) == 10.0
    assert meter.rate_hz(last_ns + SECOND // 2) == 2.0
    assert meter.rate_hz(last_ns + 100 * SECOND) == 0.01


def test_images_of_one_moment_have_a_rate_too():
    meter = RateMeter()
    for _ in range(3):
        meter.tick(BOOT)
    assert meter.rate_hz(BOOT) == SECOND
