# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.flow.accounts import StreamMonitor
from tests.builders import START_NS, compressed_message, encode, image_message, smooth

SECOND = 1_000_000_000


def look_at(messages):
    stream = StreamMonitor()
    stream.begin(0)
    for message in messages:
        stream.look(message)
    return stream.identical


def noise(height=480, width=640, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# Does it come?


def test_silence_counts_from_the_beginning_and_from_the_last_image():
    stream = StreamMonitor()
    stream.begin(10 * SECOND)
    assert (stream.silent_ns(12 * SECOND), stream.has_images) == (2 * SECOND, False)
    stream.arrive(12 * SECOND, 0)
    assert (stream.silent_ns(15 * SECOND), stream.has_images) == (3 * SECOND, True)
    assert stream.silent_ns(11 * SECOND) == 0  # read before the image, asked after it


def test_the_rate_is_that_of_the_images():
    stream = StreamMonitor()
    stream.begin(0)
    assert stream.rate.rate_hz(SECOND) is None
    for number in range(5):
        stream.arrive(SECOND + number * SECOND // 20, 0)
    assert stream.rate.rate_hz(SECOND + 4 * SECOND // 20) == 20.0
    assert stream.rate.rate_hz(3 * SECOND + 4 * SECOND // 20) == 0.5


def test_images_that_were_replaced_count_for_the_rate():
    stream = StreamMonitor()
    stream.begin(0)
    for number in range(5):  # two of three are replaced
        stream.arrive(number * SECOND // 10, 2 * number)
    assert stream.rate.rate_hz(4 * SECOND // 10) == 30.0
    assert not stream.rate.is_at_least
    stream.arrive(5 * SECOND // 10, 7)  # one was lost, as is known now
    stream.arrive(6 * SECOND // 10, 8)
    assert stream.rate.rate_hz(6 * SECOND // 10) == pytest.approx(14 / 0.6)


def test_where_images_have_no_numbers_the_rate_is_at_least_what_was_seen():
    stream = StreamMonitor()
    stream.begin(0)
    stream.arrive(0, 0)
    stream.arrive(SECOND, 0, is_at_least=True)
    assert (stream.rate.rate_hz(SECOND), stream.rate.is_at_least) == (1.0, True)
    for number in range(2, 20):  # it has time again
        stream.arrive(number * SECOND, 0)
    assert not stream.rate.is_at_least


def test_a_new_beginning_forgets_the_old_stream():
    stream = StreamMonitor()
    stream.begin(0)
    stream.publishers = 1
    stream.incompatible = "reliability"
    for number in (1, 2):
        stream.arrive(number * SECOND, 0)
        stream.look(b"same")
    assert stream.identical == 1
    stream.begin(50 * SECOND)
    assert (stream.has_images, stream.identical, stream.incompatible) == (False, 0, "")
    assert stream.publishers is None  # of the subscription that is gone
    assert stream.rate.rate_hz(50 * SECOND) is None
    assert stream.silent_ns(51 * SECOND) == SECOND
    stream.look(b"same")
    assert stream.identical == 0


# Does the picture change?


def test_identical_images_are_counted_until_one_differs():
    same, other = image_message(noise()), image_message(noise(seed=1))
    assert look_at([]) == 0
    assert look_at([same]) == 0
    assert look_at([same] * 31) == 30
    assert look_at([same] * 31 + [other]) == 0
    assert look_at([same] * 31 + [other, other]) == 1
    assert look_at([same, other] * 10) == 0


@pytest.mark.parametrize("little_endian", [True, False])
def test_the_stamp_does_not_count(little_endian):
    pixels = noise()
    messages = [
        image_message(pixels, stamp_ns=START_NS + n * 1_234_567_891, little_endian=little_endian)
        for n in range(5)
    ]
    assert len(set(messages)) == 5
    assert look_at(messages) == 4


def test_one_pixel_of_a_strip_counts():
    message = bytearray(image_message(noise(120, 160)))
    changes = 0
    for position in range(12, len(message), 50):  # so that no strip of 64 bytes is missed
        changed = bytearray(message)
        changed[position] ^= 1
        changes += look_at([bytes(message), bytes(changed)]) == 0
    assert 16 <= changes <= 40


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (720, 1280), (1080, 1920), (1024, 1024)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_camera_whose_edges_are_black_is_not_stuck(height, width, channels):
    def picture(seed):
        pixels = np.zeros((height, width, channels), np.uint8)
        inside = pixels[:, width // 8 : -width // 8]
        inside[:] = np.random.default_rng(seed).integers(0, 256, inside.shape, np.uint8)
        return pixels

    encoding = "bgr8" if channels == 3 else "mono8"
    messages = [image_message(picture(seed), encoding) for seed in range(2)]
    assert look_at(messages) == 0


def test_jpegs_of_another_picture_differ():
    first, second = smooth(480, 640), smooth(480, 640, seed=1)
    assert look_at([compressed_message(encode(image)) for image in (first, first)]) == 1
    assert look_at([compressed_message(encode(image)) for image in (first, second)]) == 0


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 28, 75, 76, 77, 1000, 1036])
def test_a_message_may_be_short(size):
    assert look_at([b"\x00" * size] * 3) == 2
    if size > 12:
        assert look_at([b"\x00" * size, b"\x00" * 12 + b"\x01" * (size - 12)]) == 0
