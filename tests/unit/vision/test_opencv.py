# SPDX-License-Identifier: Apache-2.0
"""OpenCV takes pictures of any size; alone, version 4.5.4 fails with those of a single pixel."""

from __future__ import annotations

import itertools
import tracemalloc

import cv2
import numpy as np
import pytest

from perception_node.vision.opencv import convert_color, resize

SIDES = list(itertools.product((1, 2, 5), repeat=2))
CHANNELS = [(), (1,), (2,), (3,), (4,)]
METHODS = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]


def inside(shape, value):
    """Pixels in the middle of a larger picture, as after a crop."""
    around = np.zeros((shape[0] + 2, shape[1] + 3, *shape[2:]), np.uint8)
    view = around[1 : 1 + shape[0], 2 : 2 + shape[1]]
    view[...] = value
    return around, view


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("target_size", SIDES)
def test_a_flat_picture_is_resized_in_place(size, target_size, channels, method):
    color = np.arange(90, 90 + (channels or (1,))[0], dtype=np.uint8)
    _, image = inside((*size, *channels), color if channels else 90)
    around, target = inside((*target_size, *channels), 0)
    resize(image, target, method)
    assert (target == (color if channels else 90)).all()
    target[...] = 0
    assert not around.any()  # nothing was written beside it


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("code", [cv2.COLOR_RGB2BGR, cv2.COLOR_RGBA2BGR, cv2.COLOR_GRAY2BGR])
def test_colors_are_converted_in_place(code, size):
    channels = {cv2.COLOR_RGB2BGR: (3,), cv2.COLOR_RGBA2BGR: (4,)}.get(code, ())
    _, image = inside((*size, *channels), [10, 20, 30, 40][: channels[0]] if channels else 7)
    around, target = inside((*size, 3), 0)
    convert_color(image, code, target)
    assert (target == ([30, 20, 10] if channels else 7)).all()
    target[...] = 0
    assert not around.any()


def test_pictures_of_a_camera_are_not_copied():
    image, target = np.zeros((480, 640, 3), np.uint8), np.zeros((224, 224, 3), np.uint8)
    resize(image, target, cv2.INTER_LINEAR)
    tracemalloc.start()
    try:
        resize(image, target, cv2.INTER_LINEAR)
        convert_color(target, cv2.COLOR_RGB2BGR, target)
        assert tracemalloc.get_traced_memory()[1] < 2_000
    finally:
        tracemalloc.stop()
