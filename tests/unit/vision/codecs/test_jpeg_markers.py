# SPDX-License-Identifier: Apache-2.0
"""JPEGs whose markers say one thing to a hasty reader and another to libjpeg."""

from __future__ import annotations

import io
import itertools
import struct
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perception_node.errors import FrameError, FrameTooLarge, UndecodableImage
from perception_node.vision.codecs import jpeg
from perception_node.vision.codecs.jpeg_markers import find_marks, read_header, require_whole_scan
from perception_node.vision.decode import Decoder
from tests.builders import encode, smooth
from tests.hostile_images import (
    hidden_jpeg,
    huge_frame,
    segment,
    with_exif,
    with_scans,
    without_huffman_tables,
)
from tests.memory import cheap

with suppress(ImportError):
    from simplejpeg import decode_jpeg_header

PICTURE = smooth(96, 130)
JPEG = encode(PICTURE)
PROGRESSIVE = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
BLACK = encode(np.zeros((96, 96, 3), np.uint8), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
UNKNOWN = [0x02, 0x4F, 0xBF, 0xC8, 0xDE, 0xDF, 0xF0, 0xF7, 0xFD]
OTHER_PROCESSES = [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF]
# No marker, or one without a length: what a hasty reader takes for a segment and libjpeg skips.
DISGUISES = [b"\xff\x00", b"\xff\xff\x00", b"\x00\x00", b"\xd8\xff", b"\xff\x01", b"\xff\xd0"]


def all_marks(data, start, **options):
    return [int(place) for marks in find_marks(data, start, **options) for place in marks]


def decode(data, *, damaged_images="drop", smallest_side=10_000):
    return Decoder(4096 * 4096, smallest_side, damaged_images).decode(data)


@pytest.fixture
def _cheap():
    with cheap(most_s=0.1, most_kib=10_000):
        yield


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("damaged_images", ["drop", "use"])
def test_no_second_image_hides_behind_what_is_no_segment(disguise, damaged_images):
    """300 bytes with a hidden 30000x30000 took 16 s and 5 GB."""
    with pytest.raises(FrameError):
        decode(hidden_jpeg(JPEG, disguise), damaged_images=damaged_images)


def test_the_hidden_image_is_one_for_libjpeg():
    """If this fails, the test above shows nothing: Pillow reads its size by its own reader."""
    bare = hidden_jpeg(JPEG, b"\xff\x00")
    with pytest.raises(FrameTooLarge, match="30000x30000"):
        decode(b"\xff\xd8" + bare[6:])
    with pytest.raises(UndecodableImage, match="byte 2 is not the marker"):
        decode(bare)


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("damaged_images", ["drop", "use"])
@pytest.mark.parametrize(
    ("place", "what", "why"),
    [
        (2, JPEG, "a second image begins"),
        (FRAME, b"\xff\xd8", "a second image begins"),
        (FRAME, huge_frame(), "states its size twice"),
        (SCAN, huge_frame(), "states its size twice"),
        (SCAN, huge_frame(0xC2), "states its size twice"),
        (SCAN, segment(0xDC, b"\x75\x30"), "DNL"),
        (FRAME, b"\xff\xd9", "ends before its pixels"),
        (FRAME, JPEG[SCAN:], "before their size"),
        (FRAME, b"\0", "not the marker"),
        (FRAME, b"\xff\x00", "not the marker"),
        (FRAME, b"\xff" * 5000, "not the marker"),
        (FRAME, b"\xff\xe0\x00\x00", "length 0"),
        (FRAME, b"\xff\xe0\x00\x01", "length 1"),
        (FRAME, b"\xff\xfe\xff\xff", "cut short"),
        (FRAME, segment(0xDD, b"\x01"), "restart interval"),
        (FRAME, segment(0xFE, b"") * 3000, "more than 2048 segments"),
        *((FRAME, segment(marker, b"ab"), "not known") for marker in UNKNOWN if marker != 0xC8),
        (FRAME, segment(0xC8, b"ab"), "lossless, hierarchical"),
    ],
)
def test_a_header_that_libjpeg_would_read_otherwise_is_refused(place, what, why, damaged_images):
    with pytest.raises((UndecodableImage, FrameTooLarge), match=why):
        decode(JPEG[:place] + what + JPEG[place:], damaged_images=damaged_images)


@pytest.mark.parametrize("marker", OTHER_PROCESSES)
def test_only_baseline_extended_and_progressive_are_decoded(marker):
    other = JPEG.replace(b"\xff\xc0\x00\x11", bytes((0xFF, marker)) + b"\x00\x11")
    with pytest.raises(UndecodableImage, match="lossless, hierarchical or arithmetic"):
        decode(other)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({5: 0, 6: 0}, "states 130x0"),
        ({7: 0, 8: 0}, "states 0x96"),
        ({4: 12}, "of 12 bits"),
        ({9: 2}, "frame header"),
        ({3: 16}, "frame header"),
        ({11: 0x20, 14: 0x10, 17: 0x10}, "damaged"),
    ],
)
def test_a_frame_header_that_makes_no_sense_is_refused(changes, why):
    content = bytearray(JPEG)
    for place, value in changes.items():
        content[FRAME + place] = value
    with pytest.raises(UndecodableImage, match=why):
        decode(bytes(content))


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("damaged_images", ["drop", "use"])
@pytest.mark.parametrize("scans", [100, 2_900, 20_000])
def test_scans_are_counted_in_the_whole_file(scans, damaged_images):
    """2 900 scans took 26 s."""
    with pytest.raises(UndecodableImage, match="more than 64 scans"):
        decode(with_scans(BLACK, scans), damaged_images=damaged_images)


@pytest.mark.parametrize(("side", "limit"), [(96, 64), (4096, 12)])
def test_the_larger_the_image_the_fewer_scans_it_may_have(side, limit):
    picture = np.zeros((side, side, 3), np.uint8)
    data = encode(picture, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert decode(data, smallest_side=64).shape[2] == 3  # encoders make 10
    with pytest.raises(UndecodableImage, match=f"more than {limit} scans"):
        decode(with_scans(data, limit - 9))


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("damaged_images", ["drop", "use"])
@pytest.mark.parametrize("sampling", [0x11, 0x44])
def test_a_few_bytes_cannot_ask_for_hundreds_of_megabytes(sampling, damaged_images):
    """A progressive JPEG is kept as a whole until its last scan: here three times as much."""
    sizes = struct.pack(">BHHB", 8, 4096, 4096, 3)
    frame = sizes + b"".join(bytes((channel, sampling, 0)) for channel in (1, 2, 3))
    scan = segment(0xDA, bytes((3, 1, 0, 2, 0, 3, 0, 0, 0, 1)))
    data = b"\xff\xd8" + segment(0xC2, frame) + scan * 12 + b"\xff\xd9"
    with pytest.raises(UndecodableImage, match="more than 6 scans, which takes too long"):
        decode(data, damaged_images=damaged_images)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (huge_frame(0xC2), "states its size twice"),
        (b"\xff\xd8", "a second image"),
        (segment(0xDC, b"\x75\x30"), "DNL"),
        (segment(0xF0, b"ab"), "f0 is not known"),
    ],
)
def test_what_may_not_be_before_a_scan_may_not_be_between_two(between, why):
    second = PROGRESSIVE.index(b"\xff\xda", PROGRESSIVE.index(b"\xff\xda") + 2)
    with pytest.raises(UndecodableImage, match=why):
        decode(PROGRESSIVE[:second] + between + PROGRESSIVE[second:], damaged_images="use")


def test_marks_are_those_that_end_coded_data():
    data = b"\xff\xd8 \xff\x00 \xff\xff\x00 \xff\xd3 \xff\xff\xda \xff"
    restart, scan = data.index(b"\xff\xd3"), data.index(b"\xff\xda")
    assert all_marks(data, 2) == [scan]
    assert all_marks(data, 2, with_restarts=True) == [restart, scan]


@pytest.mark.parametrize("place", [65_535, 65_536, 65_537, 131_073])
def test_marks_are_found_wherever_a_block_ends(place):
    data = bytearray(200_000)
    data[place : place + 2] = b"\xff\xc4"
    assert all_marks(bytes(data), 2) == [place]


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xd0", b"\xff\x00", b"\0"])
@pytest.mark.parametrize("start", [BLACK[:-2], RESTARTS[:-2]])
def test_megabytes_of_nothing_in_a_scan_cost_little(start, filler, monkeypatch):
    monkeypatch.setattr(jpeg, "decode_jpeg", None)
    monkeypatch.setattr(jpeg, "_untold", [])
    filled = start + filler * (4_000_000 // len(filler)) + b"\xff\xd9"
    with suppress(UndecodableImage):
        decode(filled)


@pytest.mark.usefixtures("_cheap")
def test_a_hundred_directories_of_exif_cost_little():
    entries = b"MM\0*" + struct.pack(">IH", 8, 0xFFFF) + bytes(65_000)
    data = with_exif(JPEG, entries)
    for _ in range(100):
        data = with_exif(data, entries)
    assert decode(data).shape == (96, 130, 3)


MARKER_BYTES = [0x00, 0x01, 0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDC, 0xDD, 0xE1, 0xFE, 0xFF]
PLACES = st.integers(2, SCAN + 14)
PIECES = st.one_of(
    st.lists(st.sampled_from(MARKER_BYTES), min_size=1, max_size=4).map(bytes),
    st.binary(min_size=1, max_size=6),
    st.sampled_from([huge_frame(), huge_frame(0xC2), JPEG[:SCAN], JPEG[FRAME:], b"\xff\xd8"]),
)


@pytest.mark.skipif(jpeg.decode_jpeg is None, reason="simplejpeg is not installed")
@settings(max_examples=400)
@given(changes=st.lists(st.tuples(PLACES, PIECES, st.booleans()), min_size=1, max_size=3))
def test_libjpeg_finds_the_size_that_was_read(changes):
    """Whatever is put into a header or over it: a JPEG that passes is the one libjpeg decodes."""
    data = JPEG
    for place, piece, is_inserted in changes:
        data = data[:place] + piece + data[place + (0 if is_inserted else len(piece)) :]
    try:
        header = read_header(data)
    except UndecodableImage:
        return
    try:
        height, width = decode_jpeg_header(data, strict=False)[:2]
    except (ValueError, KeyError):  # the latter: a sampling that simplejpeg has no name for
        return  # libjpeg refuses more
    assert (header.width, header.height) == (width, height)


# What cameras send


@pytest.mark.parametrize(
    "data",
    [
        without_huffman_tables(JPEG),
        JPEG + bytes(4096),
        JPEG + JPEG[300:],
        JPEG[:-2] + b"\xff" * 7 + JPEG[-2:],
        JPEG[:FRAME] + b"\xff" * 9 + JPEG[FRAME:],
        JPEG[:SCAN] + b"\xff\xff\xff" + JPEG[SCAN:],
        JPEG[:2] + segment(0xE0, b"AVI1" + bytes(12)) + JPEG[2:],
        JPEG[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) + JPEG[2:],
        with_exif(JPEG, b"MM\0*" + JPEG),  # a thumbnail, with markers of its own
        JPEG[:2] + segment(0xFE, b"\xff\xda\xff\xc0\xff\xd8" * 99) + JPEG[2:],
        JPEG[:FRAME] + segment(0xDD, b"\0\0") + JPEG[FRAME:],
    ],
)
def test_what_cameras_really_send_is_taken(data):
    assert np.array_equal(decode(data), decode(JPEG))


def padded(data, size, value):
    """Pad the data before each restart marker and the end, as Logitech's webcams do."""
    header = read_header(data)
    marks = [*all_marks(data, header.scan, with_restarts=True), len(data)]
    parts = [data[begin:end] for begin, end in itertools.pairwise(marks)]
    return data[: marks[0]] + b"".join(bytes([value]) * size + part for part in parts)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("value", [0x00, 0x55, 0xFF])
@pytest.mark.parametrize("whole", [JPEG, RESTARTS])
def test_padding_of_webcams_is_no_damage(whole, value, size):
    assert np.array_equal(decode(padded(whole, size, value)), decode(whole))


@pytest.mark.skipif(jpeg.decode_jpeg is None, reason="simplejpeg is not installed")
@pytest.mark.parametrize("whole", [JPEG, RESTARTS])
def test_more_than_padding_is(whole):
    with pytest.raises(UndecodableImage, match="extraneous bytes"):
        decode(padded(whole, 50, 0x55))


@pytest.mark.skipif(jpeg.decode_jpeg is None, reason="simplejpeg is not installed")
def test_padding_hides_no_lost_part():
    data = padded(RESTARTS, 9, 0x55)
    marks = all_marks(data, read_header(data).scan, with_restarts=True)
    with pytest.raises(UndecodableImage):
        decode(data[: marks[8]] + data[marks[16] :])


@pytest.mark.parametrize(
    ("mode", "subsampling"),
    [
        ("L", "4:4:4"),
        ("RGB", "4:4:4"),
        ("RGB", "4:2:2"),
        ("RGB", "4:2:0"),
        ("RGB", "4:1:1"),
        ("CMYK", "4:4:4"),
    ],
)
@pytest.mark.parametrize("is_progressive", [False, True])
def test_the_pixels_are_those_of_opencv(mode, subsampling, is_progressive):
    file = io.BytesIO()
    options = {"subsampling": subsampling, "progressive": is_progressive, "quality": 90}
    Image.fromarray(PICTURE).convert(mode).save(file, "JPEG", **options)
    data = file.getvalue()
    for smallest_side, flag in ((10_000, 1), (48, cv2.IMREAD_REDUCED_COLOR_2), (24, 33)):
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        pixels = decode(data, smallest_side=smallest_side)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= 4  # another version of libjpeg


def test_a_chroma_subsampling_that_no_camera_has_is_refused():
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert("CMYK").save(file, "JPEG", subsampling="4:2:0")
    with pytest.raises(
        UndecodableImage, match="channels are sampled in a way that is not decoded"
    ):
        decode(file.getvalue())


# Without a decoder that reports damage


def test_restart_markers_are_counted_and_in_order():
    header = read_header(RESTARTS)
    marks = all_marks(RESTARTS, header.scan, with_restarts=True)
    assert len(marks) > 20
    require_whole_scan(RESTARTS, header)
    lost = RESTARTS[: marks[3]] + RESTARTS[marks[4] :]
    late = RESTARTS[: marks[9]] + RESTARTS[-2:]
    doubled = RESTARTS[: marks[5]] + RESTARTS[marks[4] :]
    stray = JPEG[: SCAN + 40] + b"\xff\xd0" + JPEG[SCAN + 40 :]
    for data in (lost, late, doubled, stray):
        with pytest.raises(UndecodableImage, match="restart markers"):
            require_whole_scan(data, read_header(data))


@given(st.binary(max_size=80), st.sampled_from([JPEG[:2], JPEG[:FRAME], JPEG[:SCAN]]))
def test_random_bytes_are_a_header_or_refused(data, start):
    try:
        header = read_header(start + data)
    except UndecodableImage as error:
        if not str(error).isprintable():
            raise
        return
    assert header.width > 0
    assert 0 < header.scan <= len(start + data)
