# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, MalformedImage
from perception_node.vision.encodings import ENCODINGS, NAMES, READ
from perception_node.vision.frame import lay_out
from tests.builders import ROOT

HEIGHT, WIDTH = 6, 8


def lay(encoding, step, size, *, height=HEIGHT, width=WIDTH):
    numbers = {"height": height, "width": width, "step": step, "size": size}
    return lay_out(encoding, **numbers, max_pixels=1 << 24, takes_floats=True)


def tight(encoding):
    """Return the bytes of a row, and of an image without padding."""
    form = ENCODINGS[encoding]
    row = WIDTH * form.pixel_bytes
    return row, row * int(HEIGHT * form.rows_per_height)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_image_without_padding_needs_no_step(encoding):
    row, size = tight(encoding)
    right = lay(encoding, row, size)
    assert right.complaint == ""
    for step in (0, 1, WIDTH - 1, row - 1):
        found = lay(encoding, step, size)
        assert found[:-1] == right[:-1]
        assert found.complaint == (
            f"the image's step is {step}, but its {size} bytes are {size // row} rows of {row} "
            f"without padding, and are read so; the driver should send step {row}"
        )


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24", "i420", "yv12"])
@pytest.mark.parametrize("factor", [1.5, 2, 3])
def test_a_step_that_counts_the_planes_is_seen_through(encoding, factor):
    row, size = tight(encoding)
    found = lay(encoding, int(row * factor), size)
    assert found[:-1] == lay(encoding, row, size)[:-1]
    assert f"should send step {row}" in found.complaint
    padded = lay(encoding, int(row * factor), int(size * factor))
    assert padded.strides[0] == int(row * factor)  # it can be what it says
    assert padded.complaint == ""


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("more", [-1, 1, 6])
def test_without_a_step_any_other_length_is_refused(encoding, more):
    row, size = tight(encoding)
    for step in (0, row - 1):
        reason = f"step {step} is less than the {row} bytes of one row, and the data has "
        with pytest.raises(MalformedImage, match=reason):
            lay(encoding, step, size + more)


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "yuyv", "mono16", "bayer_rggb8"])
@pytest.mark.parametrize("factor", [1.5, 2, 3])
def test_half_an_image_is_not_taken_for_one_without_padding(encoding, factor):
    row, size = tight(encoding)
    with pytest.raises(MalformedImage, match="cut short"):
        lay(encoding, int(row * factor), size)


@pytest.mark.parametrize("encoding", ["i420", "yv12"])
def test_half_of_an_odd_step_is_no_row_of_colour(encoding):
    with pytest.raises(MalformedImage, match="step 9 is odd"):
        lay(encoding, 9, 9 * 9)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *(("RGB8", "rgb8"), ("Mono8", "mono8"), ("MONO16", "mono16"), ("8uc3", "8UC3")),
        *(("16uc1", "16UC1"), ("BAYER_RGGB8", "bayer_rggb8"), ("BayerRG8", "bayer_rggb8")),
        *(("YUYV", "yuyv"), ("YUY2", "yuyv"), ("UYVY", "uyvy"), ("NV12", "nv12")),
        *(("yuv420", "i420"), ("I420", "i420"), ("YV12", "yv12"), ("YUV422", "yuv422")),
        *(("BGRx", "bgrx8"), ("xRGB", "xrgb8"), ("GREY", "mono8"), ("Y16", "mono16")),
    ],
)
def test_known_names_in_any_case(name, key):
    row, size = tight(key)
    assert lay(name, row, size) == lay(key, row, size)
    assert lay(name, row, size).encoding == key


def test_names_are_in_small_letters_and_lead_to_an_encoding():
    assert {*NAMES.values()} == {*ENCODINGS, "32FC1"}
    assert all(name == name.lower() for name in NAMES)


def test_the_documentation_names_every_form():
    words = set(re.findall(r"\w+", ROOT.joinpath("docs/images.md").read_text(encoding="utf-8")))
    assert {*READ, *NAMES} - {name.lower() for name in READ} <= words
    assert {name.lower() for name in READ} <= {word.lower() for word in words}


@given(
    name=st.sampled_from(sorted(NAMES)),
    height=st.integers(0, 20),
    width=st.integers(0, 20),
    step=st.integers(0, 70),
    size=st.integers(0, 2000),
)
def test_no_byte_outside_the_data_is_ever_looked_at(name, height, width, step, size):
    """NumPy checks that for the views themselves; the planes of colour are viewed by us."""
    try:
        found = lay(name, step, size, height=height, width=width)
    except FrameError:
        return
    data = memoryview(bytes(size))
    assert found.view(data).shape == found.shape
    if found.narrow:
        samples = found.view_samples(data, is_bigendian=True)
        assert samples.shape[:2] == (height, width)
    if found.encoding in {"i420", "yv12"}:
        begin, last = height * found.strides[0], (height - 1) * (found.strides[0] // 2)
        assert begin + last + width // 2 <= size
    if found.encoding == "nv24":
        assert (height + 2 * (height - 1)) * found.strides[0] + 2 * width <= size


def test_samples_are_viewed_in_their_byte_order():
    data = memoryview(bytes(range(24)))
    found = lay_out("rgb16", height=2, width=2, step=12, size=24, max_pixels=99)
    big = found.view_samples(data, is_bigendian=True)
    little = found.view_samples(data, is_bigendian=False)
    assert (big.shape, big.dtype.itemsize) == ((2, 2, 3), 2)
    assert big[0, 1].tolist() == [0x0607, 0x0809, 0x0A0B]
    assert little[1, 0].tolist() == [0x0D0C, 0x0F0E, 0x1110]
    assert np.shares_memory(big, np.frombuffer(data, np.uint8))
