# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, FrameTooLarge, MalformedImage, UnsupportedEncoding
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import Frame, Unpacker, lay_out
from tests.builders import quadrants, smooth

LIMIT = 4096 * 4096
SEMI_PLANAR, THREE_PLANES = ("nv12", "nv21", "nv24"), ("i420", "yv12")
PLANAR = (*SEMI_PLANAR, *THREE_PLANES)
PACKED_422 = ("yuyv", "yuv422_yuy2", "uyvy", "yuv422")
BAYER = {  # colour at row 0 or 1, column 0 or 1, as ROS names the pattern
    "bayer_rggb8": "RGGB",
    "bayer_bggr8": "BGGR",
    "bayer_gbrg8": "GBRG",
    "bayer_grbg8": "GRBG",
}
OF_THREE = {"rgb8": "RGB", "bgr8": "BGR", "8UC3": "BGR"}
OF_FOUR = {
    "rgba8": "RGBA",
    "bgra8": "BGRA",
    "8UC4": "BGRA",
    "rgbx8": "RGBX",
    "bgrx8": "BGRX",
    "xrgb8": "XRGB",
    "xbgr8": "XBGR",
}
DEEP = tuple(name for name in ENCODINGS if "16" in name)
IN_PLACE = (*OF_THREE, *sorted(set(OF_FOUR) - {"xrgb8", "xbgr8"}), "mono8", "8UC1")


def gray(rgb):
    return rgb.astype(np.float64) @ (0.299, 0.587, 0.114)


def to_yuv(rgb):
    """ITU-R BT.601 with limited range, as cameras use it."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    u = 128 + (-37.797 * red - 74.203 * green + 112.0 * blue) / 255
    v = 128 + (112.0 * red - 93.786 * green - 18.214 * blue) / 255
    return [np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (luma, u, v)]


def encode_rows(encoding, rgb, *, big=False):
    """Return the rows of memory, uint8 (rows, bytes), of an RGB image; written from the format's
    definition, without the code under test."""
    height, width = rgb.shape[:2]
    if encoding in DEEP:
        narrow = encoding.replace("16UC", "8UC") if "UC" in encoding else encoding[:-2] + "8"
        samples = encode_rows(narrow, rgb).astype(np.uint16) * 257
        pixels = samples.astype(">u2" if big else "<u2").view(np.uint8)
    elif encoding in (OF_THREE | OF_FOUR):
        filler = np.full((height, width, 1), 0xA5, np.uint8)
        order = (OF_THREE | OF_FOUR)[encoding].replace("A", "X")
        pixels = np.concatenate([rgb, filler], axis=2)[..., ["RGBX".index(n) for n in order]]
    elif encoding in ("mono8", "8UC1"):
        pixels = np.rint(gray(rgb)).astype(np.uint8)
    elif encoding in BAYER:
        pixels = np.empty((height, width), np.uint8)
        for place, color in enumerate(BAYER[encoding]):
            row, column = divmod(place, 2)
            channel = "RGB".index(color)
            pixels[row::2, column::2] = rgb[row::2, column::2, channel]
    else:
        pixels = encode_yuv(encoding, *to_yuv(rgb))
    return np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)


def encode_yuv(encoding, luma, u, v):
    height, width = luma.shape
    if encoding in PACKED_422:
        pair = np.empty((height, width // 2, 4), np.uint8)
        first = 0 if encoding in ("yuyv", "yuv422_yuy2") else 1
        pair[..., first], pair[..., first + 2] = luma[:, 0::2], luma[:, 1::2]
        pair[..., 1 - first], pair[..., 3 - first] = u[:, 0::2], v[:, 0::2]
        return pair
    if encoding in THREE_PLANES:
        chroma = [u[::2, ::2], v[::2, ::2]][:: -1 if encoding == "yv12" else 1]
        return np.concatenate([luma, *(plane.reshape(-1, width) for plane in chroma)])
    step = 1 if encoding == "nv24" else 2
    chroma = np.stack([u[::step, ::step], v[::step, ::step]], axis=-1)
    if encoding == "nv21":
        chroma = chroma[..., ::-1]
    return np.concatenate([luma, chroma.reshape(-1, width)])


def pad(rows, padding):
    """Append bytes to each row that no reader may look at."""
    filler = np.full((rows.shape[0], padding), 0xA5, np.uint8)
    return np.concatenate([rows, filler], axis=1)


def pad_nv24(rows, padding):
    """The same, where each row of colour is as long as two rows of brightness."""
    height, width = rows.shape[0] // 3, rows.shape[1]
    chroma = pad(rows[height:].reshape(height, 2 * width), 2 * padding)
    return np.concatenate([pad(rows[:height], padding), chroma.reshape(-1, width + padding)])


def pad_three_planes(rows, padding):
    """The same, where each row of colour is half as long as one of brightness."""
    height, width = rows.shape[0] * 2 // 3, rows.shape[1]
    chroma = pad(rows[height:].reshape(height, width // 2), padding // 2)
    return np.concatenate([pad(rows[:height], padding), chroma.reshape(-1, width + padding)])


def lay_rows_out(encoding, rows, padding):
    if encoding in THREE_PLANES:
        return pad_three_planes(rows, padding)
    return (pad_nv24 if encoding == "nv24" else pad)(rows, padding)


def view(encoding, data, height, width, step, *, max_pixels=LIMIT):
    layout = lay_out(
        encoding, height=height, width=width, step=step, size=len(data), max_pixels=max_pixels
    )
    return layout.view(memoryview(data))


def to_frame(pixels, encoding, height, width, *, is_bigendian=False):
    return Frame(pixels, encoding, height, width, is_bigendian, 0, "")


def make_frame(encoding, rgb, padding=0, *, big=False):
    height, width = rgb.shape[:2]
    rows = lay_rows_out(encoding, encode_rows(encoding, rgb, big=big), padding)
    pixels = view(encoding, rows.tobytes(), height, width, rows.shape[1])
    return to_frame(pixels, encoding, height, width, is_bigendian=big)


def to_rgb(packed, order):
    if order == "GRAY":
        return np.repeat(packed[..., None], 3, axis=2)
    return packed[..., [order.index(color) for color in "RGB"]]


def expected_rgb(encoding, rgb):
    if ENCODINGS[encoding].order == "GRAY":
        return np.repeat(gray(rgb)[..., None], 3, axis=2)
    return rgb.astype(np.float64)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_four_colours_come_out_of_every_encoding(encoding, padding):
    rgb = quadrants(32, 48)
    packed, order = Unpacker().unpack(make_frame(encoding, rgb, padding))
    assert packed.dtype == np.uint8
    assert packed.shape[:2] == (32, 48)
    difference = np.abs(to_rgb(packed, order) - expected_rgb(encoding, rgb))
    for rows in (slice(4, 12), slice(20, 28)):  # away from the edges, where colours bleed
        for columns in (slice(4, 20), slice(28, 44)):
            assert difference[rows, columns].max() <= 4


@pytest.mark.parametrize("padding", [0, 2, 34])
@pytest.mark.parametrize("encoding", [*PLANAR, *PACKED_422])
def test_smooth_colours_keep_their_place_in_yuv(encoding, padding):
    rgb = smooth(64, 96) // 2 + 64
    packed, order = Unpacker().unpack(make_frame(encoding, rgb, padding))
    assert np.abs(to_rgb(packed, order) - rgb.astype(np.float64)).mean() < 3


@pytest.mark.parametrize("encoding", DEEP)
def test_big_and_little_endian_16_bit_show_the_same_picture(encoding):
    rgb = smooth(20, 30)
    little, order = Unpacker().unpack(make_frame(encoding, rgb, 4))
    big, _ = Unpacker().unpack(make_frame(encoding, rgb, 4, big=True))
    assert np.array_equal(little, big)
    narrow = make_frame(ENCODINGS[encoding].narrow, rgb)
    assert np.array_equal(little, Unpacker().unpack(narrow)[0])
    assert order == ENCODINGS[narrow.encoding].order


@pytest.mark.parametrize("encoding", IN_PLACE)
def test_pixels_are_the_bytes_of_the_message(encoding):
    rows = pad(encode_rows(encoding, quadrants(8, 10)), 5)
    message = bytearray(rows.tobytes())
    pixels = view(encoding, message, 8, 10, rows.shape[1])
    frame = to_frame(pixels, encoding, 8, 10)
    packed, _ = Unpacker().unpack(frame)
    assert np.shares_memory(packed, np.frombuffer(message, np.uint8))
    message[0] ^= 0xFF
    assert packed.reshape(-1)[0] == message[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_view_of_a_message_is_read_only(encoding):
    assert not make_frame(encoding, quadrants(8, 8)).pixels.flags.writeable


@pytest.mark.parametrize("encoding", sorted(set(ENCODINGS) - set(IN_PLACE)))
def test_conversions_reuse_their_buffer(encoding):
    unpacker = Unpacker()
    first, _ = unpacker.unpack(make_frame(encoding, quadrants(16, 16)))
    kept = first.copy()
    second, _ = unpacker.unpack(make_frame(encoding, 255 - quadrants(16, 16)))
    assert np.shares_memory(first, second)
    assert not np.array_equal(kept, second)


def test_size_and_encoding_may_change_from_frame_to_frame():
    unpacker = Unpacker()
    for encoding in (*ENCODINGS, *reversed(ENCODINGS)):
        for shape in ((16, 16), (24, 10)):
            frame = make_frame(encoding, quadrants(*shape), 4)
            alone, _ = Unpacker().unpack(frame)
            packed, _ = unpacker.unpack(frame)
            assert np.array_equal(packed, alone)


def test_bgr_pixels_make_a_frame():
    pixels = quadrants(6, 4)
    frame = Frame.from_bgr(pixels, 12, "lens")
    assert (frame.height, frame.width, frame.encoding) == (6, 4, "bgr8")
    assert (frame.stamp_ns, frame.frame_id) == (12, "lens")
    assert frame.pixels is pixels


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_data_that_is_one_byte_short_is_refused(encoding, padding):
    rows = lay_rows_out(encoding, encode_rows(encoding, quadrants(8, 8)), padding)
    data = rows.tobytes()
    last = padding // 2 if encoding in THREE_PLANES else padding  # of which nothing is read
    whole, cut = data[: len(data) - last], data[: len(data) - last - 1]
    view(encoding, whole, 8, 8, rows.shape[1])
    with pytest.raises(MalformedImage, match=f"{len(cut)} bytes, .* need {len(whole)};"):
        view(encoding, cut, 8, 8, rows.shape[1])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_padding_of_the_last_row_may_be_missing(encoding):
    rgb = quadrants(8, 8)
    rows = lay_rows_out(encoding, encode_rows(encoding, rgb), 4)
    last = 2 if encoding in THREE_PLANES else 4
    pixels = view(encoding, rows.tobytes()[:-last], 8, 8, rows.shape[1])
    packed, _ = Unpacker().unpack(to_frame(pixels, encoding, 8, 8))
    assert np.array_equal(packed, Unpacker().unpack(make_frame(encoding, rgb))[0])


def test_bytes_after_the_last_row_are_allowed():
    rows = encode_rows("rgb8", quadrants(4, 4))
    assert view("rgb8", rows.tobytes() + b"more", 4, 4, 12).shape == (4, 4, 3)


@pytest.mark.parametrize(("height", "width"), [(0, 8), (8, 0), (0, 0)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_pixels_is_no_image(encoding, height, width):
    with pytest.raises(MalformedImage, match=f"{width}x{height} is no image"):
        view(encoding, bytes(64), height, width, 8)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_absurd_size_is_refused_without_allocating_it(encoding):
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge, match="4294967295x4294967295"):
            view(encoding, bytes(64), 2**32 - 1, 2**32 - 1, 2**32 - 1)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_largest_image_allowed_is_exactly_that():
    data = bytes(12)
    assert view("mono8", data, 3, 4, 4, max_pixels=12).shape == (3, 4)
    with pytest.raises(FrameTooLarge, match="max_image_pixels"):
        view("mono8", data, 3, 4, 4, max_pixels=11)


@pytest.mark.parametrize(
    ("encoding", "height", "width"),
    [(e, 4, 5) for e in (*PACKED_422, *PLANAR)] + [(e, 5, 4) for e in PLANAR],
)
def test_odd_sizes_have_no_shared_colour(encoding, height, width):
    with pytest.raises(MalformedImage, match="is odd"):
        view(encoding, bytes(1000), height, width, 20)


def test_packed_yuv_may_have_an_odd_height():
    packed, _ = Unpacker().unpack(make_frame("yuyv", quadrants(5, 4)))
    assert packed.shape == (5, 4, 3)


@pytest.mark.parametrize(
    "encoding", ["", "RGB9", "16SC1", "64FC1", "8UC5", "r" * 10_000, "größe\n\x1b[31m", "\0"]
)
def test_an_unknown_encoding_is_named_short_and_escaped(encoding):
    with pytest.raises(UnsupportedEncoding) as caught:
        view(encoding, bytes(64), 4, 4, 12)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    assert "rgb8" in text


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    height=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    width=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 200) | st.integers(0, 2**32 - 1),
    size=st.integers(0, 5000),
    is_bigendian=st.booleans(),
)
def test_any_numbers_give_a_whole_image_or_a_frame_error(
    encoding, height, width, step, size, is_bigendian
):
    try:
        pixels = view(encoding, bytes(size), height, width, step)
    except FrameError:
        return
    frame = to_frame(pixels, encoding, height, width, is_bigendian=is_bigendian)
    packed, _ = Unpacker().unpack(frame)
    assert packed.shape[:2] == (height, width)


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    padding=st.integers(0, 9),
)
def test_every_consistent_image_is_accepted(encoding, height, width, padding):
    layout = ENCODINGS[encoding]
    if layout.even:
        height, width = 2 * height, 2 * width
    padding += padding % 2 if encoding in THREE_PLANES else 0
    step = width * layout.pixel_bytes + padding
    data = bytes(step * int(height * layout.rows_per_height))
    pixels = view(encoding, data, height, width, step)
    packed, _ = Unpacker().unpack(to_frame(pixels, encoding, height, width))
    assert packed.shape[:2] == (height, width)
