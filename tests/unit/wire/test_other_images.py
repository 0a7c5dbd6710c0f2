# SPDX-License-Identifier: Apache-2.0
"""Images that are whole in their own way: wrong steps, deep samples, files in an Image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, UndecodableImage, UnsupportedEncoding
from perception_node.vision.encodings import NAMES
from perception_node.vision.frame import Unpacker
from perception_node.vision.samples import SampleScaler
from perception_node.wire.images import FILES, ImageReader
from tests.builders import compressed_message, encode, image_message, quadrants

LIMIT = 1 << 20
COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
BANDS = np.array(COLORS, np.uint8)[:, None].repeat(8, axis=1).repeat(8, axis=0)  # 24 rows of 8
MIDDLES = [4, 12, 20]


def open_reader(transport="raw", mono16="full", mono32=""):
    """Return what reads a message, and the list of what is complained of."""
    complaints = []
    scaler = SampleScaler(mono16, mono32, complaints.append)
    reader = ImageReader(transport, LIMIT, 10_000, scaler=scaler, warn=complaints.append)
    return reader.read, complaints


def colors_of(frame):
    """Return RGB in the middle of each third of the image."""
    packed, order = Unpacker().unpack(frame)
    picked = packed[MIDDLES, 4]
    if order == "GRAY":
        return picked.tolist()
    return picked[:, [order.index(name) for name in "RGB"]].tolist()


def deep_message(encoding, samples, *, big=False, padding=0):
    """Serialize samples of shape (height, width[, channels])."""
    kind = samples.dtype.str[1:]
    rows = samples.astype(f"{'>' if big else '<'}{kind}").reshape(len(samples), -1)
    rows = np.pad(rows.view(np.uint8), ((0, 0), (0, padding)), constant_values=0x5A)
    size = {"height": samples.shape[0], "width": samples.shape[1]}
    return image_message(rows, encoding, is_bigendian=int(big), **size)


# Steps


@pytest.mark.parametrize("step", [0, 8, 23])
def test_a_wrong_step_is_named_once_and_the_image_is_read(step):
    read, complaints = open_reader()
    frames = [read(image_message(BANDS, step=step)) for _ in range(3)]
    assert [colors_of(frame) for frame in frames] == [COLORS] * 3
    (complaint,) = complaints
    assert complaint == (
        f"the image's step is {step}, but its 576 bytes are 24 rows of 24 without padding, and "
        "are read so; the driver should send step 24"
    )


def test_a_right_step_is_not_complained_of():
    read, complaints = open_reader()
    read(image_message(BANDS))
    assert complaints == []


# 16 bits and floats


@pytest.mark.parametrize("padding", [0, 2, 7])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16", "16UC3", "16UC4"])
def test_12_bits_of_colour(encoding, big, padding):
    samples = BANDS.astype(np.uint16) // 255 * 4095
    if "rgb" not in encoding:
        samples = samples[..., ::-1]
    if "a" in encoding or "4" in encoding:
        samples = np.dstack([samples, np.full((24, 8), 4095, np.uint16)])
    message = deep_message(encoding, samples, big=big, padding=padding)
    for mono16 in ("0,4095", "auto"):
        read, complaints = open_reader(mono16=mono16)
        assert colors_of(read(message)) == COLORS
        assert complaints == []
    read, complaints = open_reader()
    assert colors_of(read(message)) == [[15, 0, 0], [0, 15, 0], [0, 0, 15]]
    assert len(complaints) == 1
    assert "set mono16_range to auto" in complaints[0]


@pytest.mark.parametrize("padding", [0, 2, 7])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "MONO16"])
def test_a_thermal_camera(encoding, big, padding):
    samples = np.repeat(np.array([7000, 8000, 9000], np.uint16), 8)[:, None].repeat(8, axis=1)
    message = deep_message(encoding, samples, big=big, padding=padding)
    for mono16, expected in (("full", [27, 31, 35]), ("7000,9000", [0, 128, 255])):
        read, complaints = open_reader(mono16=mono16)
        frame = read(message)
        assert colors_of(frame) == expected
        assert len(complaints) == (mono16 == "full")
        assert (frame.height, frame.width) == (24, 8)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_12_bits_of_bayer(pattern, big):
    samples = np.empty((24, 8), np.uint16)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        part = BANDS[row::2, column::2, "rgb".index(letter)]
        samples[row::2, column::2] = part.astype(np.uint16) // 255 * 4095
    read, _ = open_reader(mono16="0,4095")
    frame = read(deep_message(f"bayer_{pattern}16", samples, big=big, padding=2))
    assert colors_of(frame) == COLORS


@pytest.mark.parametrize("big", [False, True])
def test_floats_need_a_range(big):
    meters = np.repeat(np.array([1, 3, 5], np.float32), 8)[:, None].repeat(8, axis=1)
    message = deep_message("32FC1", meters, big=big, padding=3)
    with pytest.raises(UnsupportedEncoding, match="set mono32_range"):
        open_reader()[0](message)
    for mono32 in ("1,5", "auto"):
        assert colors_of(open_reader(mono32=mono32)[0](message)) == [0, 128, 255]


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_png_of_16_bits(is_grey):
    samples = BANDS[..., ::-1].astype(np.uint16) // 255 * 4095
    samples = np.ascontiguousarray(samples[..., 0] if is_grey else samples)
    message = compressed_message(cv2.imencode(".png", samples)[1].tobytes())
    bright = [[0] * 3, [0] * 3, [255] * 3] if is_grey else COLORS
    dark = (np.array(bright) // 17).tolist()
    for mono16 in ("0,4095", "auto"):
        read, complaints = open_reader("compressed", mono16)
        assert colors_of(read(message)) == bright
        assert complaints == []
    read, complaints = open_reader("compressed")
    assert [colors_of(read(message)) for _ in range(2)] == [dark, dark]
    assert len(complaints) == 1


def test_a_png_of_8_bits_knows_no_range():
    message = compressed_message(encode(BANDS // 20, ".png"))
    for mono16 in ("full", "0,4095", "auto"):
        read, complaints = open_reader("compressed", mono16)
        assert colors_of(read(message)) == [[12, 0, 0], [0, 12, 0], [0, 0, 12]]
        assert complaints == []


# Files in an Image


@pytest.mark.parametrize("name", ["jpeg", "JPEG", "jpg", "png", "mjpeg", "MJPG", "webp", "tiff"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_a_file_in_an_image_is_decoded(name, suffix):
    data = np.frombuffer(encode(quadrants(24, 32), suffix), np.uint8)
    message = image_message(data[None], name, height=24, width=32)
    frame = open_reader()[0](message)
    assert (frame.encoding, frame.height, frame.width) == ("bgr8", 24, 32)
    assert np.abs(frame.pixels[4, 4].astype(int) - (0, 0, 255)).max() < 5


def test_a_file_that_is_none_is_named():
    message = image_message(np.zeros((1, 40), np.uint8), "jpeg", height=4, width=10)
    with pytest.raises(UndecodableImage):
        open_reader()[0](message)


@given(
    name=st.sampled_from(sorted({*NAMES, *FILES})) | st.text(max_size=8),
    size=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    step=st.integers(0, 100),
    data=st.binary(max_size=1500),
    big=st.integers(0, 1),
    mono=st.sampled_from([("full", ""), ("auto", "auto"), ("0,4095", "0,1")]),
)
def test_any_image_is_read_or_refused(name, size, step, data, big, mono):
    rows = np.frombuffer(data, np.uint8)[None]
    fields = {"height": size[0], "width": size[1], "step": step, "is_bigendian": big}
    try:
        message = image_message(rows, name, **fields)
    except UnicodeEncodeError:  # no text that CDR can hold
        return
    try:
        frame = open_reader("raw", *mono)[0](message)
    except FrameError as error:
        assert str(error).isprintable()
        return
    packed, _ = Unpacker().unpack(frame)
    assert packed.shape[:2] == (frame.height, frame.width)
