# SPDX-License-Identifier: Apache-2.0
"""Files that lie about more than their size: none may cost memory, time or the process."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameTooLarge, MalformedImage, UndecodableImage
from perception_node.vision.decode import Decoder
from perception_node.vision.frame import MAX_SIDE
from tests.builders import encode, quadrants, smooth
from tests.hostile_images import (
    HUGE,
    apng,
    chunk,
    orientation,
    png,
    segment,
    squeeze,
    with_exif,
    with_scans,
)
from tests.memory import cheap

LIMIT = 4096 * 4096
JPEG = encode(quadrants(64, 96))
PROGRESSIVE = encode(np.zeros((512, 512, 3), np.uint8), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
SQUEEZED = squeeze(100)
HUGE_SIZES = [HUGE, HUGE - 11, 2**31, 2**31 - 1, 2**31 - 13, 2**30]
CORNERS = {"red": (0, 0), "green": (0, -1), "blue": (-1, 0), "white": (-1, -1)}
# Where EXIF says that the first row and column of the file are on the upright picture, and so
# where the four corners of the file end up: upper left and right, lower left and right.
UPRIGHT = {
    1: ("red", "green", "blue", "white"),
    2: ("green", "red", "white", "blue"),
    3: ("white", "blue", "green", "red"),
    4: ("blue", "white", "red", "green"),
    5: ("red", "blue", "green", "white"),
    6: ("blue", "red", "white", "green"),
    7: ("white", "green", "blue", "red"),
    8: ("green", "white", "red", "blue"),
}
BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}


def decode(data, *, max_pixels=LIMIT, smallest_side=10_000):
    return Decoder(max_pixels, smallest_side).decode(data)


@pytest.fixture(autouse=True)
def _quiet(capfd):
    """Swallow what libjpeg and libpng write about damaged files."""
    yield
    capfd.readouterr()


@pytest.fixture
def _cheap():
    with cheap(most_s=0.5, most_kib=10_000):
        yield


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("size", HUGE_SIZES)
@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT", b"eXIf", b"abCd", b"IEND"])
def test_a_chunk_longer_than_the_file_is_refused(kind, size):
    """OpenCV 5 would clear that much memory first: gigabytes, seconds."""
    assert decode(png(chunk(kind, b"", 0) if kind == b"tEXt" else b"")).shape == (8, 8, 3)
    with pytest.raises(UndecodableImage, match="cut short"):
        decode(png(chunk(kind, bytes(20), size)))


@pytest.mark.usefixtures("_cheap")
def test_chunks_without_end_are_refused():
    with pytest.raises(UndecodableImage, match="cut short"):
        decode(png(chunk(b"abCd", b"") * 200_000))


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("size", [(30_000, 30_000), (30_000, 8)])
def test_a_second_header_does_not_count(size):
    width, height = (number.to_bytes(4, "big") for number in size)
    second = chunk(b"IHDR", width + height + bytes((8, 2, 0, 0, 0)))
    with pytest.raises(UndecodableImage):
        decode(png(second))


@pytest.mark.skipif(
    re.search(r"PNG: .*ver 1\.5", cv2.getBuildInformation()) is not None,
    reason="libpng 1.5 of the wheels of OpenCV 4.5 unpacks it; Ubuntu's OpenCV uses libpng 1.6",
)
@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_text_that_unpacks_to_much_is_not_unpacked(kind):
    name = b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0"
    assert decode(png(chunk(kind, name + SQUEEZED))).shape == (8, 8, 3)


@pytest.mark.parametrize("number", [10**3, 10**4])
@pytest.mark.usefixtures("_cheap")
def test_a_jpeg_of_endless_scans_is_refused(number):
    """A thousand scans of 512 x 512 pixels are 10 kB; 4096 x 4096 pixels would take a minute."""
    with pytest.raises(UndecodableImage, match="more than 64 scans"):
        decode(with_scans(PROGRESSIVE, number))


@pytest.mark.usefixtures("_cheap")
def test_endless_scans_of_one_component_are_refused():
    """Not progressive, but each scan is one component only, so that libjpeg takes them all."""
    data = encode(smooth(512, 512))
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(UndecodableImage, match="more than 64 scans"):
        decode(data[: data.rindex(b"\xff\xda")] + scan * 1000 + b"\xff\xd9")


def test_scans_in_a_header_do_not_count():
    """A comment and a thumbnail may hold any bytes; a camera's own scan is one."""
    comment = segment(0xFE, b"\xff\xda" * 1000)
    assert decode(JPEG[:2] + comment + JPEG[2:]).shape == (64, 96, 3)


def test_a_progressive_jpeg_may_have_as_many_scans_as_encoders_make():
    assert decode(PROGRESSIVE).shape == (512, 512, 3)


@pytest.mark.parametrize("name", ["jpeg", "png"])
@pytest.mark.parametrize("is_tall", [True, False])
def test_a_side_that_no_camera_has_is_refused(name, is_tall):
    def strip(length):
        size = (length, 2) if is_tall else (2, length)
        return encode(np.zeros((*size, 3), np.uint8), f".{name}")

    assert max(decode(strip(MAX_SIDE)).shape) == MAX_SIDE
    with pytest.raises(MalformedImage, match=f"more than {MAX_SIDE} pixels"):
        decode(strip(MAX_SIDE + 1))


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize(
    "animation",
    [
        apng(),
        apng(0),
        apng(HUGE),
        apng(height=4, width=4, offset=2),
        apng(offset=HUGE),
        apng(height=0, width=0),
        apng(height=1000, width=1000),
    ],
)
def test_an_animation_is_refused(animation):
    """The fourth ends the process with OpenCV 4.11, the newest that works with NumPy 1."""
    with pytest.raises(UndecodableImage, match="animated PNG"):
        decode(animation)


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
def test_a_part_of_an_animation_is_refused(kind):
    with pytest.raises(UndecodableImage, match="animated PNG"):
        decode(png(chunk(kind, bytes(26))))


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("smallest_side", [10_000, 24])
def test_the_picture_stands_upright_in_all_eight_ways(value, smallest_side):
    pixels = decode(with_exif(JPEG, orientation(value)), smallest_side=smallest_side)
    inside = ((3, 3), (3, -4), (-4, 3), (-4, -4))
    for place, color in zip(inside, UPRIGHT[value], strict=True):
        assert np.abs(pixels[place].astype(int) - BGR[color]).max() < 60, color


@pytest.mark.parametrize(
    "directory",
    [
        b"",
        b"MM",
        b"MM\x00\x2a\xff\xff\xff\xff",
        b"II\x2a\x00" + bytes(4),
        b"MM\x00\x2a\x00\x00\x00\x08\xff\xff" + bytes(50),
        orientation(0),
        orientation(9),
        orientation(0xFFFF),
        orientation(6)[:-10],
    ],
)
def test_damaged_exif_leaves_the_picture_as_it_is(directory):
    assert np.array_equal(decode(with_exif(JPEG, directory)), decode(JPEG))


@given(
    directory=st.binary(max_size=60), start=st.sampled_from([b"", b"MM\x00\x2a", b"II\x2a\x00"])
)
def test_random_exif_is_no_reason_to_lose_a_picture(directory, start):
    assert sorted(decode(with_exif(JPEG, start + directory)).shape) == [3, 64, 96]


@pytest.mark.parametrize("marker", sorted(set(range(0xC0, 0xD0)) - {0xC0, 0xC1}))
def test_a_jpeg_of_another_process_is_a_frame_or_an_error(marker):
    """Lossless, hierarchical, arithmetic: whatever the build of libjpeg makes of them."""
    other = JPEG.replace(b"\xff\xc0\x00\x11", bytes((0xFF, marker)) + b"\x00\x11")
    assert other != JPEG
    try:
        pixels = decode(other)
    except UndecodableImage:
        return
    assert pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("size", [(65_500, 65_500), (65_535, 65_535), (65_535, 257)])
def test_a_jpeg_that_claims_the_largest_size_is_refused(size):
    place = JPEG.index(b"\xff\xc0") + 5
    claim = size[0].to_bytes(2, "big") + size[1].to_bytes(2, "big")
    with pytest.raises(FrameTooLarge, match=f"{size[1]}x{size[0]}"):
        decode(JPEG[:place] + claim + JPEG[place + 4 :])
