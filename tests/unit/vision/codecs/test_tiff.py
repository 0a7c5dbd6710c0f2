# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, FrameTooLarge, UndecodableImage
from perception_node.vision.decode import Decoder
from perception_node.vision.samples import SampleScaler
from tests.builders import quadrants, smooth

LIMIT = 1 << 20
PICTURE = np.ascontiguousarray(smooth(60, 90)[..., ::-1])  # BGR
WITH_ALPHA = np.dstack([PICTURE, PICTURE[..., 0]])
DEEP = PICTURE.astype(np.uint16) * 257
NONE, LZW, DEFLATE = 1, 5, 8


def encode(pixels, compression=LZW):
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    return cv2.imencode(".tiff", pixels, options)[1].tobytes()


FILES = {
    "colours": encode(PICTURE),
    "grey": encode(PICTURE[..., 0]),
    "alpha": encode(WITH_ALPHA),
    "16 bits": encode(DEEP),
    "16 bits grey": encode(DEEP[..., 0]),
    "16 bits alpha": encode(WITH_ALPHA.astype(np.uint16) * 257),
    "not compressed": encode(PICTURE, NONE),
    "deflated": encode(PICTURE, DEFLATE),
    "16 bits deflated": encode(DEEP, DEFLATE),
}


def decode(data, *, smallest_side=10_000, mono16="full"):
    return Decoder(LIMIT, smallest_side, scaler=SampleScaler(mono16)).decode(data)


def tiff(order="<", strip=None, **changes):
    """Write a TIFF of 6 x 4 pixels, RGB of 8 bits; ``changes`` are values by tag."""
    strip = quadrants(4, 6).tobytes() if strip is None else strip
    tags = {
        256: [6],
        257: [4],
        258: [8, 8, 8],
        259: [NONE],
        262: [2],
        273: [8],
        277: [3],
        278: [4],
        279: [len(strip)],
        **{int(name[1:]): value for name, value in changes.items()},
    }
    begin = 8 + len(strip)
    rest, entries = b"", []
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place = struct.pack(f"{order}I", begin + 2 + 12 * len(tags) + 4 + len(rest))
            packed, rest = place, rest + packed
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(values)) + packed)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, begin)
    count = struct.pack(f"{order}H", len(tags))
    return b"".join((start, strip, count, *entries, bytes(4), rest))


@pytest.fixture(autouse=True)
def _nothing_on_stderr(capfd):
    yield
    written = capfd.readouterr().err
    if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):
        assert written == ""


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_that_were_written(name):
    expected = PICTURE[..., :1].repeat(3, axis=2) if "grey" in name else PICTURE
    assert np.array_equal(decode(FILES[name]), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_smaller_picture_looks_the_same(name):
    half = decode(FILES[name], smallest_side=30)
    assert half.shape == (30, 45, 3)
    assert np.abs(half - decode(FILES[name])[::2, ::2].astype(int)).mean() < 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order):
    assert np.array_equal(decode(tiff(order))[..., ::-1], quadrants(4, 6))
    deep = quadrants(4, 6).astype(f"{order}u2") * 257
    found = decode(tiff(order, deep.astype(f"{order}u2").tobytes(), t258=[16, 16, 16]))
    assert np.array_equal(found[..., ::-1], quadrants(4, 6))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_differences_are_added_up(order, kind):
    samples = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(f"{order}{kind}")
    stored = samples.copy()
    stored[:, 1:] -= samples[:, :-1]
    strip = zlib.compress(stored.tobytes())
    bits = [8 * samples.itemsize] * 3
    found = decode(tiff(order, strip, t258=bits, t259=[DEFLATE], t317=[2]))
    expected = samples >> (bits[0] - 8)
    assert np.array_equal(found[..., ::-1], expected)


def test_several_strips_of_which_the_last_is_short():
    strip = quadrants(4, 6).tobytes()
    found = decode(tiff("<", strip, t278=[3], t273=[8, 8 + 54], t279=[54, 18]))
    assert np.array_equal(found[..., ::-1], quadrants(4, 6))


def test_16_bits_have_a_range():
    dark = encode(DEEP >> 4)
    assert decode(dark).max() <= 15
    assert np.array_equal(decode(dark, mono16="0,4095"), PICTURE)


def test_the_picture_stands_upright():
    found = decode(tiff(t274=[6]))
    assert found.shape == (4, 6, 3)  # a LONG is no orientation
    data = tiff(t274=[6]).replace(struct.pack("<HHI", 274, 4, 1), struct.pack("<HHI", 274, 3, 1))
    assert np.array_equal(decode(data), cv2.rotate(found, cv2.ROTATE_90_CLOCKWISE))


@pytest.mark.parametrize(
    "changes",
    [
        *({"t259": [code]} for code in (2, 3, 4, 6, 7, 32773, 34712, 50001)),
        *({"t262": [0]}, {"t262": [3]}, {"t262": [6]}, {"t277": [1]}, {"t277": [2], "t258": [8]}),
        *({"t258": [1]}, {"t258": [12, 12, 12]}, {"t258": [32] * 3}, {"t258": [8, 8, 16]}),
        *({"t284": [2]}, {"t266": [2]}, {"t339": [3] * 3}, {"t322": [6]}, {"t317": [3]}),
    ],
)
def test_other_kinds_are_named(changes):
    with pytest.raises(UndecodableImage, match="of a kind that is not decoded"):
        decode(tiff(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"t256": [0]},
            {"t257": [0]},
            {"t278": [0]},
            {"t278": [1]},
            {"t256": [7]},
            {"t257": [5]},
        ),
        *({"t273": [9999]}, {"t279": [9999]}, {"t279": [71]}, {"t273": [8, 8]}, {"t258": [8] * 5}),
        *({"t278": [2], "t273": [8, 8], "t279": [200, 200]}, {"t273": [(1 << 32) - 1]}),
        *({"t259": [DEFLATE]}, {"t259": [LZW]}, {"t278": [3], "t273": [8] * 2, "t279": [54] * 3}),
    ],
)
def test_contradictions_are_refused(changes):
    with pytest.raises(UndecodableImage):
        decode(tiff(**changes))


def test_lzw_of_odd_rows_is_named():
    odd = encode(PICTURE[:, :89])
    with pytest.raises(UndecodableImage, match="rows of 267 bytes"):
        decode(odd)
    assert np.array_equal(decode(encode(PICTURE[:, :89], DEFLATE)), PICTURE[:, :89])


def test_a_huge_size_costs_nothing():
    with pytest.raises(FrameTooLarge, match="60000x60000"):
        decode(tiff(t256=[60_000], t257=[60_000]))


@pytest.mark.parametrize("extra", [1, 50_000_000])
def test_a_bomb_is_not_unpacked(extra):
    strip = zlib.compress(bytes(72 + extra))
    tracemalloc.start()
    try:
        begin_s = time.thread_time()
        with pytest.raises(UndecodableImage, match="other pixels than its header states"):
            decode(tiff("<", strip, t259=[DEFLATE]))
        assert time.thread_time() - begin_s < 0.1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_gives_no_picture(name):
    whole = FILES[name]
    for cut in (*range(min(300, len(whole))), *range(300, len(whole), 97), len(whole) - 1):
        try:
            found = decode(whole[:cut])
        except UndecodableImage:
            continue
        assert cut >= len(whole) - 4  # where another directory would be named
        assert np.array_equal(found, decode(whole))


@given(
    name=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(-260, 60), st.integers(0, 255)), max_size=5),
)
def test_a_mutated_file_is_decoded_or_refused(name, changes):
    data = bytearray(FILES[name])
    for place, value in changes:
        data[place] = value
    try:
        pixels = decode(bytes(data))
    except FrameError as error:
        assert str(error).isprintable()
        return
    assert pixels.shape[2] == 3
    assert pixels.shape[0] * pixels.shape[1] <= LIMIT


@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0"])
)
def test_random_bytes_are_refused(data, start):
    with pytest.raises(FrameError):
        decode(start + data)
