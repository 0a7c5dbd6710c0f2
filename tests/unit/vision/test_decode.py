# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import FrameError, FrameTooLarge, UndecodableImage
from perception_node.vision import decode
from perception_node.vision.decode import Decoder
from tests.builders import ROOT, encode, quadrants, smooth

LIMIT = 4096 * 4096
PICTURE = smooth(96, 130)
THUMBNAIL = encode(smooth(16, 16))
PLAIN_JPEG = encode(PICTURE)


def read_size(data):
    image = decode._open(data)
    return image.width, image.height


def segment(marker, payload):
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(jpeg, *segments):
    """Insert marker segments where cameras put them, right after the start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif(orientation=1, thumbnail=b""):
    """An APP1 segment: a TIFF directory with the orientation; the thumbnail follows it."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\x00\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    return segment(0xE1, b"Exif\x00\x00" + tiff + thumbnail)


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_of(width, height, depth=1):
    """A black grey PNG, packed as tightly as zlib can."""
    row = bytes(1 + (width * depth + 7) // 8)
    squeeze = zlib.compressobj(9)
    body = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FILES = {
    "baseline": PLAIN_JPEG,
    "progressive": encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart markers": encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "thumbnail": with_segments(PLAIN_JPEG, exif(thumbnail=THUMBNAIL)),
    "many segments": with_segments(
        PLAIN_JPEG, b"\xff\xff", segment(0xE0, bytes(14)), b"\xff\x01", segment(0xFE, b"\xff" * 99)
    ),
    "grey": cv2.imencode(".jpg", PICTURE[..., 0])[1].tobytes(),
    "png": encode(PICTURE, ".png"),
    "grey png": cv2.imencode(".png", PICTURE[..., 0])[1].tobytes(),
    "png with alpha": cv2.imencode(".png", np.dstack([PICTURE[..., ::-1], PICTURE[..., :1]]))[
        1
    ].tobytes(),
    "16 bit png": cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
}


def decoder(max_pixels=LIMIT, smallest_side=10_000):
    return Decoder(max_pixels, smallest_side)


@pytest.fixture(autouse=True)
def _quiet(capfd):
    """Swallow what libjpeg and libpng write about damaged files."""
    yield
    capfd.readouterr()


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_read_from_the_header(name):
    assert read_size(FILES[name]) == (130, 96)
    assert read_size(memoryview(FILES[name])) == (130, 96)


@pytest.mark.parametrize("name", FILES)
def test_the_picture_is_decoded_to_bgr(name):
    pixels = decoder().decode(memoryview(FILES[name]))
    expected = PICTURE[..., :1] if "grey" in name else PICTURE
    assert pixels.dtype == np.uint8
    assert pixels.shape == (96, 130, 3)
    tolerance = 0 if "png" in name else 4
    assert np.abs(pixels[..., ::-1].astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_never_gives_a_wrong_picture(name):
    """OpenCV 4 fills what a JPEG lacks with grey, without a word."""
    whole = FILES[name]
    start_of_data = whole.index(b"IDAT") if "png" in name else whole.rindex(b"\xff\xda")
    cuts = [*range(min(start_of_data + 20, 900)), *range(900, len(whole), 64)]
    for cut in (*cuts, len(whole) - 2, len(whole) - 1):
        with pytest.raises(UndecodableImage):
            decoder().decode(whole[:cut])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_end_is_noticed_before_opencv_sees_the_data(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the data is not whole"))
    for cut in (len(FILES[name]) - 1, len(FILES[name]) * 2 // 3):
        with pytest.raises(UndecodableImage, match="cut short"):
            decoder().decode(FILES[name][:cut])


@pytest.mark.parametrize("padding", [b"\0", bytes(5000), b"\xff" * 70, b"\xd9\x00trailer" * 99])
@pytest.mark.parametrize("name", ["baseline", "progressive", "thumbnail", "png"])
def test_bytes_that_a_camera_appends_do_not_matter(name, padding):
    whole = decoder().decode(FILES[name])
    assert np.array_equal(decoder().decode(FILES[name] + padding), whole)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"GIF89a" + bytes(100),
        b"II*\x00" + bytes(100),
        b"v/1\x01" + bytes(100),
        b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(100),
        b"BM" + bytes(100),
        bytes(1000),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda" + bytes(50),
        b"\xff\xd8\xff\xe0\x00\x02junk" + bytes(50),
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", bytes(20)),
    ],
)
def test_other_data_is_refused(data):
    with pytest.raises(UndecodableImage) as caught:
        decoder().decode(data)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(width, height):
    with pytest.raises(UndecodableImage, match="header of the image is damaged"):
        read_size(png_of(width, height))


def test_damage_that_the_codec_notices_is_refused():
    damaged = bytearray(FILES["png"])
    damaged[damaged.index(b"IDAT") + 40] ^= 0xFF
    with pytest.raises(UndecodableImage, match="damaged"):
        decoder().decode(bytes(damaged))


def test_a_png_bomb_is_refused_before_it_is_unpacked():
    bomb = png_of(30_000, 30_000)
    assert len(bomb) < 200_000
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        start = time.thread_time()
        with pytest.raises(FrameTooLarge, match="30000x30000"):
            decoder().decode(bomb)
        assert time.thread_time() - start < 0.05
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 10_000


def test_a_huge_jpeg_is_refused_by_its_header():
    frame = PLAIN_JPEG.index(b"\xff\xc0")
    huge = bytearray(PLAIN_JPEG)
    huge[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65499)
    with pytest.raises(FrameTooLarge, match="65499x65500"):
        decoder().decode(bytes(huge))


def test_the_largest_image_allowed_is_exactly_that():
    decoder(max_pixels=96 * 130).decode(PLAIN_JPEG)
    with pytest.raises(FrameTooLarge):
        decoder(max_pixels=96 * 130 - 1).decode(PLAIN_JPEG)


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\x01", b"\xff\xe0\x00\x00"])
def test_a_header_without_end_costs_no_time(filler):
    data = b"\xff\xd8" + filler * (8_000_000 // len(filler))
    start = time.thread_time()
    with pytest.raises(UndecodableImage):
        read_size(data)
    assert time.thread_time() - start < 0.1


def test_limits_that_opencv_was_given_are_no_bug_of_ours():
    script = (
        "import sys; from perception_node.vision.decode import Decoder, UndecodableImage\n"
        "try: Decoder(10**7, 10**4).decode(sys.stdin.buffer.read())\n"
        "except UndecodableImage as error: print('refused:', error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=FILES["png"],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "100"},
        check=False,
    )
    assert result.stdout.startswith(b"refused:"), result.stderr.decode()
    assert result.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("smallest_side", "expected"),
    [
        (1000, (480, 640)),
        (241, (480, 640)),
        (240, (240, 320)),
        (121, (240, 320)),
        (120, (120, 160)),
        (61, (120, 160)),
        (60, (60, 80)),
        (1, (60, 80)),
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(smallest_side, expected):
    data = encode(quadrants(480, 640))
    pixels = decoder(smallest_side=smallest_side).decode(data)
    assert pixels.shape == (*expected, 3)
    corners = [pixels[y, x] for y in (5, -5) for x in (5, -5)]
    bgr = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)]
    assert np.abs(np.array(corners, int) - bgr).max() < 30


def test_the_shorter_side_decides_for_tall_images_too():
    data = encode(smooth(640, 480))
    assert decoder(smallest_side=240).decode(data).shape == (320, 240, 3)


@pytest.mark.parametrize("smallest_side", [10_000, 24])
def test_the_picture_stands_upright_as_exif_says(smallest_side):
    data = with_segments(encode(quadrants(64, 96)), exif(orientation=6))  # turn right by 90°
    pixels = decoder(smallest_side=smallest_side).decode(data)
    assert pixels.shape[0] > pixels.shape[1]
    assert np.abs(pixels[3, 3].astype(int) - (255, 0, 0)).max() < 30  # blue was below left
    assert np.abs(pixels[3, -3].astype(int) - (0, 0, 255)).max() < 30  # red was above left


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n"]))
def test_random_bytes_have_a_size_or_are_refused(data, start):
    try:
        width, height = read_size(start + data)
    except UndecodableImage:
        return
    assert width > 0
    assert height > 0


@given(
    name=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_mutated_file_is_decoded_or_refused(name, changes):
    data = bytearray(FILES[name])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        pixels = decoder(max_pixels=1 << 20).decode(bytes(data))
    except FrameError:
        return
    assert pixels.ndim == 3
    assert pixels.shape[0] * pixels.shape[1] <= 1 << 20
