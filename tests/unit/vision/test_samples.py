# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from perception_node.config.sample_range import parse_range_16, parse_range_32
from perception_node.config.sections import CameraConfig
from perception_node.errors import ConfigError
from perception_node.vision.samples import SampleScaler


def ramp(low, high, kind="u2"):
    return np.linspace(low, high, 64 * 80).reshape(64, 80).astype(kind)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_fixed_range_spreads_the_bits_of_a_sensor(order, bits):
    highest = (1 << bits) - 1
    samples = np.array([[0, highest // 2, highest, 65535]], f"{order}u2")
    found = SampleScaler(f"0,{highest}").scale(samples)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 127, 255, 255]]


def test_what_is_darker_than_the_range_is_black():
    samples = np.array([[0, 999, 1000, 1500, 2000, 2001]], np.uint16)
    assert SampleScaler("1000,2000").scale(samples).tolist() == [[0, 0, 0, 128, 255, 255]]


def test_auto_takes_the_1st_to_99th_percentile():
    samples = ramp(1000, 1100)
    samples[0, 0], samples[5, 5] = 0, 65535  # broken pixels
    found = SampleScaler("auto").scale(samples)
    assert (found.min(), found.max()) == (0, 255)
    assert abs(int(found[32, 0]) - 128) <= 3
    assert (found == 0).mean() < 0.03
    assert (found == 255).mean() < 0.03


def test_auto_follows_slowly():
    scaler, dark, bright = SampleScaler("auto"), ramp(0, 1000), ramp(10_000, 11_000)
    first = scaler.scale(dark).mean()
    assert scaler.scale(dark).mean() == first
    means = [scaler.scale(bright).mean() for _ in range(80)]
    assert means[0] > 250  # far outside of the range so far
    assert abs(means[-1] - first) < 2
    assert sorted(means, reverse=True) == means


def test_every_camera_has_a_range_of_its_own():
    scaler, other = SampleScaler("auto"), SampleScaler("auto")
    expected = other.scale(ramp(0, 1000))
    scaler.scale(ramp(50_000, 60_000))
    assert np.array_equal(other.scale(ramp(0, 1000)), expected)


def test_channels_share_one_range():
    colors = np.stack([ramp(0, 1000), ramp(0, 2000), ramp(0, 4000)], axis=2)
    found = SampleScaler("0,4000").scale(colors)
    assert found.shape == (64, 80, 3)
    assert found[-1, -1].tolist() == [64, 128, 255]


def test_floats_have_a_range_of_their_own():
    assert not SampleScaler("auto").takes_floats
    assert SampleScaler(mono32_range="auto").takes_floats
    meters = np.array([[0.2, 0.3, 5.15, 10, 99, np.nan, np.inf, -np.inf]], np.float32)
    found = SampleScaler(mono32_range="0.3,10").scale(meters)
    assert found.tolist() == [[0, 0, 128, 255, 255, 0, 255, 0]]


def test_auto_looks_at_finite_floats_only():
    meters = ramp(1, 5, "f4")
    meters[::2] = np.nan
    found = SampleScaler(mono32_range="auto").scale(meters)
    assert not found[::2].any()
    assert (found[1::2].min(), found[1::2].max()) == (0, 255)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_one_colour_and_no_finite_sample_are_black(value):
    assert not SampleScaler("auto").scale(np.full((8, 8), value, np.uint16)).any()
    nothing = np.full((8, 8), np.nan, np.float32)
    assert not SampleScaler(mono32_range="auto").scale(nothing).any()


@pytest.mark.parametrize(
    ("low", "high", "is_named"),
    [(0, 1023, True), (0, 4095, True), (8000, 9000, True), (0, 4352, False), (0, 65535, False)],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_image_that_uses_less_than_a_sixteenth_is_named(low, high, is_named, order):
    warnings = []
    scaler = SampleScaler(warn=warnings.append)
    scaler.judge(ramp(low, high, f"{order}u2"))
    assert bool(scaler.complaint) == is_named
    if is_named:
        assert "set mono16_range to auto" in scaler.complaint
    scaler.judge(ramp(0, 65535))
    assert scaler.complaint == ""
    scaler.judge(ramp(0, 100))
    assert len(warnings) == 1


def test_the_high_bytes_alone_can_be_judged():
    scaler = SampleScaler()
    scaler.judge((ramp(0, 4095) >> 8).astype(np.uint8))
    assert "use only values 0 to 4095 of 65535" in scaler.complaint


@pytest.mark.parametrize(
    "text", ["", "Full", "1", "1,", "a,b", "5,5", "9,1", "-1,5", "0,65536", "0,nan", "1,2,3"]
)
def test_what_is_no_range_of_16_bits(text):
    with pytest.raises(ConfigError, match="mono16_range must be full, auto or MIN,MAX"):
        CameraConfig(mono16_range=text)


@pytest.mark.parametrize("text", ["full", "0", "1,0", "0,inf", "nan,1", "-1e308,1e308"])
def test_what_is_no_range_of_floats(text):
    with pytest.raises(ConfigError, match="mono32_range must be empty, auto or MIN,MAX"):
        CameraConfig(mono32_range=text)


def test_ranges_as_people_write_them():
    assert parse_range_16(" 0 , 4095 ") == (0, 4095)
    assert parse_range_16("full") == (0, 65535)
    assert parse_range_16("auto") is None
    assert parse_range_32("-2.5,1e3") == (-2.5, 1000)


@given(
    samples=arrays.arrays(
        st.sampled_from([np.dtype("<u2"), np.dtype(">u2"), np.dtype("<f4"), np.dtype(">f4")]),
        arrays.array_shapes(min_dims=2, max_dims=3, max_side=9),
    ),
    text=st.sampled_from(["auto", "0,4095", "0.5,1"]),
)
@pytest.mark.filterwarnings("error")
def test_any_samples_become_bytes(samples, text):
    scaler = SampleScaler(text, text)
    for _ in range(2):
        found = scaler.scale(samples)
        assert (found.shape, found.dtype) == (samples.shape, np.uint8)
