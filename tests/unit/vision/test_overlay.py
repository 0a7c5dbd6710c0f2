# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.vision.overlay import draw_overlay
from perception_node.vision.postprocess import Hypothesis
from tests.builders import quadrants

FOUND = (Hypothesis(3, "tabby", 0.8), Hypothesis(4, "Größe 緑", 0.15), Hypothesis(5, "cup", 0.05))
ORDERS = ("RGB", "BGR", "RGBA", "BGRA", "GRAY")


def packed(order, rgb):
    if order == "GRAY":
        return rgb[..., 1].copy()
    planes = dict(zip("RGB", np.moveaxis(rgb, -1, 0), strict=True))
    return np.dstack([planes.get(channel, np.full_like(planes["R"], 255)) for channel in order])


@pytest.mark.parametrize("order", ORDERS)
def test_the_picture_keeps_its_colours_above_the_text(order):
    image = packed(order, quadrants(240, 320))
    image.flags.writeable = False
    before = image.copy()
    drawn = draw_overlay(image, order, FOUND)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (240, 320, 3))
    expected = quadrants(240, 320)[..., ::-1]
    if order == "GRAY":
        expected = np.repeat(expected[..., 1:2], 3, axis=2)
    assert np.array_equal(drawn[:100], expected[:100])
    assert not np.array_equal(drawn[180:], expected[180:])
    assert np.array_equal(image, before)


def test_a_bar_is_as_long_as_its_score():
    white = np.full((240, 320, 3), 255, np.uint8)
    short = draw_overlay(white, "BGR", (Hypothesis(0, "", 0.1),))
    long = draw_overlay(white, "BGR", (Hypothesis(0, "", 0.9),))
    bottom = short.shape[0] - 2  # below the text
    differ = np.flatnonzero((short[bottom] != long[bottom]).any(axis=1))
    assert abs(int(differ.min()) - 32) <= 16
    assert abs(int(differ.max()) - 288) <= 16


def test_other_hypotheses_are_another_picture():
    red = np.full((100, 140, 3), (0, 0, 255), np.uint8)
    pictures = [draw_overlay(red, "BGR", found) for found in (FOUND, FOUND[:1], ())]
    assert all(picture[0, 0].tolist() == [0, 0, 255] for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_the_label_is_drawn():
    white = np.full((240, 320, 3), 255, np.uint8)
    pictures = [draw_overlay(white, "BGR", (Hypothesis(0, word, 0.5),)) for word in ("a", "b")]
    assert not np.array_equal(*pictures)


def test_three_hypotheses_are_drawn():
    white = np.full((240, 320, 3), 255, np.uint8)
    fourth = Hypothesis(9, "fourth", 0.01)
    three = draw_overlay(white, "BGR", FOUND)
    assert np.array_equal(draw_overlay(white, "BGR", (*FOUND, fourth)), three)
    assert not np.array_equal(draw_overlay(white, "BGR", FOUND[:2]), three)


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_found_is_the_picture_itself(order):
    image = packed(order, quadrants(60, 80))
    drawn = draw_overlay(image, order, ())
    assert drawn.shape == (60, 80, 3)
    assert not np.shares_memory(drawn, image)
    if order == "BGR":
        assert np.array_equal(drawn, image)


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    order=st.sampled_from(ORDERS),
    count=st.integers(0, 4),
)
def test_no_image_is_too_small(height, width, order, count):
    hypotheses = (*FOUND, FOUND[0])[:count]
    drawn = draw_overlay(packed(order, quadrants(height, width)), order, hypotheses)
    assert drawn.shape == (height, width, 3)
