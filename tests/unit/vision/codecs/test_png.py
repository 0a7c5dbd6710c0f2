# SPDX-License-Identifier: Apache-2.0
"""PNGs that unpack to more than they state, and those that must give OpenCV's pixels."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from perception_node.errors import FrameError, UndecodableImage
from perception_node.vision.decode import Decoder
from tests.builders import smooth
from tests.hostile_images import SIGNATURE, chunk, orientation, png, squeeze
from tests.memory import cheap

LARGE = squeeze(7)  # megabytes
HEADS = {
    b"zTXt": b"k\0\0",
    b"iTXt": b"k\0\1\0\0\0",
    b"iCCP": b"k\0\0",
    b"tEXt": b"k\0",
    b"abCd": b"",
}
PICTURE = smooth(43, 61)


def decode(data, *, smallest_side=10_000, damaged_images="drop"):
    return Decoder(4096 * 4096, smallest_side, damaged_images).decode(data)


def build(kind, depth, rows, *extra, interlace=0, size=(8, 4)):
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)))
    return b"".join((SIGNATURE, *parts, chunk(b"IEND", b"")))


@pytest.fixture
def _cheap():
    with cheap(most_s=0.1, most_kib=50_000):
        yield


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("is_behind", [False, True])
def test_a_thousand_texts_of_megabytes_are_not_unpacked(kind, is_behind):
    """1 000 of 7 MiB took 29 s."""
    texts = chunk(kind, HEADS[kind] + LARGE) * 1000
    data = png(frame=texts) if is_behind else png(texts)
    assert decode(data).shape == (8, 8, 3)


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("damaged_images", ["drop", "use"])
def test_pixels_that_unpack_to_gigabytes_are_not_unpacked(damaged_images):
    """4 MB unpack to 4 GB, which took 8 to 12 s."""
    start = zlib.compressobj(9)
    begin = start.compress(bytes(1 << 20)) + start.flush(zlib.Z_FULL_FLUSH)
    middle = start.compress(bytes(1 << 20)) + start.flush(zlib.Z_FULL_FLUSH)
    bomb = begin + middle * 4000
    assert 4e6 < len(bomb) < 5e6
    with pytest.raises(UndecodableImage, match="more pixels than its header states"):
        decode(png(pixels=bomb), damaged_images=damaged_images)


@pytest.mark.parametrize("rows", [0, 7, 9, 100])
def test_fewer_or_more_rows_than_the_header_states_are_refused(rows):
    with pytest.raises(UndecodableImage, match=r"(fewer|more) pixels than its header states"):
        decode(png(pixels=zlib.compress(bytes(25 * rows))))


def test_a_stream_without_an_end_is_refused():
    pack = zlib.compressobj()
    unfinished = pack.compress(bytes(25 * 8)) + pack.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(UndecodableImage, match="fewer pixels"):
        decode(png(pixels=unfinished))


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("row", [0, 1, -1])
def test_a_filter_that_there_is_not_is_refused_without_a_word(row, interlace, capfd):
    lines = [4, 4, 7, 13, 13, 13, 25, 25] if interlace else [25] * 4  # bytes of Adam7's rows
    rows = bytearray(b"".join(bytes(size) for size in lines))
    good = build(2, 8, bytes(rows), interlace=interlace)
    assert decode(good).shape == (4, 8, 3)
    rows[sum(lines[: row % len(lines)])] = 5
    with pytest.raises(UndecodableImage, match="filter"):
        decode(build(2, 8, bytes(rows), interlace=interlace))
    assert not capfd.readouterr().err


@pytest.mark.parametrize("place", [8, 12, 16, 19, 24, 25, 29, 33, 37, 45, -20, -13, -10, -6, -1])
def test_each_checksum_counts(place, capfd):
    data = bytearray(png())
    data[place] ^= 0x11
    with pytest.raises(FrameError):
        decode(bytes(data))
    assert not capfd.readouterr().err


@pytest.mark.parametrize(("damaged_images", "is_taken"), [("drop", False), ("use", True)])
def test_a_damaged_text_costs_the_picture_only_where_damage_does(damaged_images, is_taken):
    text = bytearray(chunk(b"tEXt", b"key\0value"))
    text[10] ^= 1
    data = png(bytes(text))
    if is_taken:
        assert np.array_equal(decode(data, damaged_images=damaged_images), decode(png()))
    else:
        with pytest.raises(UndecodableImage, match="checksum of the chunk at byte 33"):
            decode(data, damaged_images=damaged_images)


@pytest.mark.parametrize(
    "data",
    [
        build(3, 8, bytes(36)),
        build(3, 8, bytes(36), chunk(b"PLTE", b"")),
        build(3, 8, bytes(36), chunk(b"PLTE", bytes(4))),
        build(3, 2, bytes(12), chunk(b"PLTE", bytes(15))),
        build(3, 8, bytes(36), chunk(b"PLTE", bytes(3)) * 2),
        png(frame=chunk(b"PLTE", bytes(3))),
        png(chunk(b"ABCD", b"critical, unknown")),
        png(frame=chunk(b"tEXt", b"k\0") + chunk(b"IDAT", b"")),
        png(chunk(b"IHDR", bytes(13))),
        build(2, 8, bytes(100), interlace=2),
        build(2, 4, bytes(52)),
        build(5, 8, bytes(100)),
        SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 4, 8, 2, 0, 0, 0)) + png()[-12:],
        png()[:-12] + chunk(b"IEND", b"x"),
    ],
)
def test_chunks_that_are_not_those_of_one_image_are_refused(data, capfd):
    with pytest.raises(UndecodableImage):
        decode(data)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_the_pixels_are_those_of_opencv(mode, reduction):
    file = io.BytesIO()
    image = Image.fromarray(PICTURE)
    if mode == "I;16":
        image = Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert("L").convert(mode) if mode == "LA" else image.convert(mode)
    image.save(file, "PNG")
    flags = {1: 1, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    expected = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), flags[reduction])
    pixels = decode(file.getvalue(), smallest_side=10_000 if reduction == 1 else 43 // reduction)
    assert np.array_equal(pixels, expected)


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]


@pytest.mark.parametrize("size", [(43, 61), (1, 1), (1, 3), (8, 8), (5, 2)])
def test_an_interlaced_png_gives_its_picture(size):
    picture = smooth(*size)
    rows = b"".join(
        b"\0" + row.tobytes()
        for x, y, step_x, step_y in (*ADAM7, (0, 1, 1, 2))
        for row in picture[y::step_y, x::step_x]
        if row.size
    )
    data = build(2, 8, rows, interlace=1, size=size[::-1])
    assert np.array_equal(decode(data)[..., ::-1], picture)


@pytest.mark.parametrize("value", range(1, 9))
def test_a_png_stands_upright_as_exif_says(value):
    """As a JPEG does, whichever OpenCV is installed."""
    rows = b"".join(b"\0" + row.tobytes() for row in smooth(4, 8))
    exif = chunk(b"eXIf", orientation(value))
    assert decode(build(2, 8, rows, exif)).shape == ((4, 8, 3) if value < 5 else (8, 4, 3))
