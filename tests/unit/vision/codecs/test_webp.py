# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, FrameTooLarge, UndecodableImage
from perception_node.vision.decode import Decoder
from tests.builders import smooth

LIMIT = 1 << 20
PICTURE = np.ascontiguousarray(smooth(60, 90)[..., ::-1])  # BGR
WITH_ALPHA = np.dstack([PICTURE, PICTURE[..., 0]])


def encode(pixels, quality):
    return cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


FILES = {
    "lossy": encode(PICTURE, 90),
    "lossless": encode(PICTURE, 101),
    "lossy with alpha": encode(WITH_ALPHA, 90),
    "lossless with alpha": encode(WITH_ALPHA, 101),
}


def decode(data, *, smallest_side=10_000, max_pixels=LIMIT):
    return Decoder(max_pixels, smallest_side).decode(data)


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(*chunks):
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended(width=90, height=60):
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return chunk(b"VP8X", bytes(4) + sizes)


LOSSY = FILES["lossy"][12:]  # its chunk


@pytest.fixture(autouse=True)
def _nothing_on_stderr(capfd):
    yield
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_opencv(name):
    expected = cv2.imdecode(np.frombuffer(FILES[name], np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode(FILES[name]), expected)
    assert np.array_equal(decode(FILES[name] + b"more"), expected)


def test_a_lossless_picture_is_that_which_was_written():
    assert np.array_equal(decode(FILES["lossless"]), PICTURE)


@pytest.mark.parametrize("name", FILES)
def test_a_smaller_picture_looks_the_same(name):
    assert decode(FILES[name], smallest_side=30).shape == (30, 45, 3)


def test_profiles_and_texts_do_not_matter():
    more = (chunk(b"ICCP", bytes(5001)), LOSSY, chunk(b"XMP ", b"x" * 7), chunk(b"ABCD", b""))
    assert np.array_equal(decode(webp(extended(), *more)), decode(FILES["lossy"]))


@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"])
def test_the_picture_stands_upright_as_exif_says(mark):
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = mark + b"MM\x00\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    found = decode(webp(extended(), LOSSY, chunk(b"EXIF", exif)))
    assert np.array_equal(found, cv2.rotate(decode(FILES["lossy"]), cv2.ROTATE_90_CLOCKWISE))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"RIFF\x04\0\0\0WAVE", "no WebP"),
        (webp(), "has 0 pictures"),
        (webp(LOSSY, LOSSY), "has 2 pictures"),
        (webp(extended(), chunk(b"ANIM", bytes(6)), chunk(b"ANMF", bytes(40))), "animated"),
        (webp(extended(91), LOSSY), "two sizes"),
        (webp(extended(90, 1 << 24), LOSSY), "two sizes"),
        (webp(*[chunk(b"ABCD", b"")] * 100, LOSSY), "more than 64 chunks"),
        (webp(chunk(b"VP8 ", bytes(40))), "header of the image is damaged"),
        (webp(chunk(b"VP8 ", b"")), "header of the image is damaged"),
        (webp(chunk(b"VP8L", b"\x2f\xff\xff\xff\xff\0")), "header of the image is damaged"),
        (webp(chunk(b"VP8L", b"")), "header of the image is damaged"),
        (webp(LOSSY[:4] + b"\xff\xff\xff\xff" + LOSSY[8:]), "cut short"),
        (webp(LOSSY, b"AB"), "cut short"),
    ],
)
def test_hostile_files_are_refused_by_their_header(data, words, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a decoder has seen it"))
    with pytest.raises(UndecodableImage, match=words):
        decode(data)


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_known_before_a_decoder_sees_the_file(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a decoder has seen it"))
    with pytest.raises(FrameTooLarge, match="90x60"):
        decode(FILES[name], max_pixels=60 * 90 - 1)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_gives_no_picture(name):
    for cut in range(4, len(FILES[name]), 13):
        with pytest.raises(UndecodableImage):
            decode(FILES[name][:cut])


@given(
    name=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=5),
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


@given(data=st.binary(max_size=100), start=st.sampled_from([b"RIFF", b"RIFF\x20\0\0\0WEBPVP8 "]))
def test_random_bytes_are_refused(data, start):
    with pytest.raises(FrameError):
        decode(start + data)
