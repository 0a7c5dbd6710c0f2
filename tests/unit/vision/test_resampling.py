# SPDX-License-Identifier: Apache-2.0
"""The numbers that both the CPU and the GPU follow; what they lead to is in test_preprocess.py."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.model.bundle import CROPPING, ResizeMode
from perception_node.vision.resampling import MAX_RADIUS, resample
from tests.builders import with_preprocessing


def preprocessing(mode, side=224):
    shorter_side = side if mode in CROPPING else 0
    return with_preprocessing(resize=mode, shorter_side=shorter_side).preprocessing


def test_a_camera_image_is_halved_once_and_smoothed_a_little():
    found = resample(preprocessing("stretch"), (720, 1500), (224, 224))
    assert found.halvings == 1
    assert (found.rows.halved, found.columns.halved) == (360, 750)
    assert (found.rows.radius, found.columns.radius) == (1, 2)
    assert found.rows.sigma < found.columns.sigma


def test_an_image_of_the_input_size_is_left_alone():
    found = resample(preprocessing("stretch"), (224, 224), (224, 224))
    assert found.halvings == 0
    assert not found.blurred
    assert found.rows == found.columns


def test_shorter_side_crops_the_centre_and_letterbox_fills_it():
    crop = resample(preprocessing("shorter-side"), (480, 720), (224, 224))
    assert (crop.columns.start, crop.columns.count) == (120, 480)
    fill = resample(preprocessing("letterbox"), (480, 640), (224, 224))
    assert (fill.rows.first, fill.rows.filled) == (28, 168)
    assert (fill.columns.first, fill.columns.filled) == (0, 224)


def test_stretch_then_crop_keeps_a_part_of_each_axis():
    crop = resample(preprocessing("stretch-crop", 256), (512, 1024), (224, 224))
    assert (crop.rows.start, crop.rows.count) == (32, 448)
    assert (crop.columns.start, crop.columns.count) == (64, 896)


def test_a_padded_square_fills_both_axes_of_an_oblong_input_alike():
    fill = resample(preprocessing("pad-square"), (300, 600), (100, 200))
    assert (fill.rows.first, fill.rows.filled) == (25, 50)
    assert (fill.columns.first, fill.columns.filled) == (0, 200)
    whole = resample(preprocessing("letterbox"), (300, 600), (100, 200))
    assert (whole.rows.first, whole.rows.filled) == (0, 100)


def test_the_blur_of_a_very_long_axis_stays_within_its_limit():
    found = resample(preprocessing("stretch"), (2, 60_000), (8, 8))
    assert found.columns.radius == MAX_RADIUS
    assert found.rows.radius == 1


@pytest.mark.parametrize("mode", get_args(ResizeMode))
@given(
    image=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
)
def test_every_pixel_that_is_used_lies_in_the_image_and_lands_in_the_input(mode, image, size):
    found = resample(preprocessing(mode, max(size)), image, size)
    for axis, length, target in zip((found.rows, found.columns), image, size, strict=True):
        assert 0 <= axis.start < axis.start + axis.count <= length
        assert 0 <= axis.first < axis.first + axis.filled <= target
        assert axis.count == axis.halved << found.halvings
        assert axis.halved >= 1
