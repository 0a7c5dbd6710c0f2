# SPDX-License-Identifier: Apache-2.0
"""A load says what it is, plays what it says, and refuses the rest in one line."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.bench.camera import load_sources
from perception_node.bench.camera.camera_messages import encode, serialize, write_stamp
from perception_node.bench.camera.load import Load, make_messages, parse_size
from perception_node.errors import BagError, ConfigError
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import MAX_SIDE, Unpacker
from perception_node.wire.images import ImageReader
from tests.builders import START_NS, compressed_message, image_message, smooth, write_bag
from tests.builders import encode as encode_jpeg

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
SMALL = Load(width=64, height=48, frames=10)


def read(message, transport="raw"):
    return ImageReader(transport, 1 << 24, smallest_side=MAX_SIDE).read(bytes(message))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_read_back_as_the_picture_it_was(encoding):
    picture = cv2.GaussianBlur(smooth(48, 64), (0, 0), 6.0)  # neighbours share their colour
    frame = read(serialize(encode(picture, encoding), encoding, 64, 48))
    assert (frame.width, frame.height, frame.encoding) == (64, 48, encoding)
    pixels, order = Unpacker().unpack(frame)
    expected = {
        "BGR": picture,
        "RGB": picture[:, :, ::-1],
        "BGRA": cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA),
        "RGBA": cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA),
        "GRAY": cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY),
    }[order]
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.mean() < 3.0


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    width=st.integers(8, 40).map(lambda side: 2 * side),
    height=st.integers(8, 40).map(lambda side: 2 * side),
)
def test_messages_have_the_size_that_was_asked_for(encoding, width, height):
    picture = np.zeros((height, width, 3), np.uint8)
    frame = read(serialize(encode(picture, encoding), encoding, width, height))
    assert (frame.width, frame.height, frame.encoding) == (width, height, encoding)


def test_a_message_is_serialized_as_others_do_it():
    picture = smooth(48, 64)
    ours = serialize(encode(picture, "rgb8"), "rgb8", 64, 48)
    write_stamp(ours, START_NS)
    theirs = image_message(np.ascontiguousarray(picture[:, :, ::-1]))
    assert ours == theirs


@given(stamp_ns=st.integers(0, 2**31 * 10**9 - 1))
def test_a_stamp_is_written_in_place(stamp_ns):
    message = serialize(np.zeros((48, 64), np.uint8), "mono8", 64, 48)
    size, pixels = len(message), bytes(message[-100:])
    write_stamp(message, stamp_ns)
    assert read(message).stamp_ns == stamp_ns
    assert (len(message), bytes(message[-100:])) == (size, pixels)


def test_pictures_differ():
    for transport in ("raw", "compressed"):
        messages = make_messages(replace(SMALL, transport=transport))
        assert 8 <= len(messages) <= 16
        assert len({bytes(message) for message in messages}) == len(messages)
        frame = read(messages[0], transport)
        assert (frame.width, frame.height) == (64, 48)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(load_sources, "HIGHEST_BYTES", 3 * 64 * 48 * 3)
    assert len(make_messages(SMALL)) == 2
    monkeypatch.setattr(load_sources, "HIGHEST_BYTES", 1)
    assert len(make_messages(SMALL)) == 1


def test_a_bag_decides_what_is_played(tmp_path):
    picture = smooth(30, 40)
    rows = [
        ("/b/image", IMAGE, 1, image_message(picture)),
        ("/b/image", IMAGE, 2, image_message(picture[::-1].copy())),
        ("/a/image/compressed", COMPRESSED, 3, compressed_message(encode_jpeg(picture))),
    ]
    bag = write_bag(tmp_path / "crossing", rows)
    raw = Load(bag=bag, rate_hz=10)
    assert raw.name == "40x30 rgb8 raw at 10 Hz, bag crossing /b/image"
    assert [bytes(m) for m in make_messages(raw)] == [rows[0][3], rows[1][3]]
    compressed = Load(bag=bag, transport="compressed")
    assert (compressed.topic, compressed.width) == ("/a/image/compressed", 40)
    assert Load(bag=bag, topic="/a/image/compressed").transport == "compressed"
    described = raw.describe()
    assert str(tmp_path) not in str(described)
    other = write_bag(tmp_path / "other" / "crossing", rows[1:])
    assert Load(bag=other, rate_hz=10).name == raw.name
    assert Load(bag=other, rate_hz=10).describe() != described


def test_a_folder_of_images_takes_the_place_of_the_samples(tmp_path):
    (tmp_path / "b.png").write_bytes(encode_jpeg(smooth(60, 80), ".png"))
    (tmp_path / "a.JPG").write_bytes(encode_jpeg(smooth(90, 30)))
    (tmp_path / "notes.txt").write_text("not a picture", encoding="utf-8")
    load = replace(SMALL, images=tmp_path)
    assert [read(message).width for message in make_messages(load)] == [64, 64]
    assert load.name == f"64x48 bgr8 raw at 30 Hz, images {tmp_path.name}"
    before = load.describe()
    (tmp_path / "b.png").write_bytes(encode_jpeg(smooth(60, 80, seed=1), ".png"))
    assert load.describe() != before
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"b\.png cannot be decoded"):
        make_messages(load)


def test_equal_loads_are_described_alike_however_long_they_are():
    assert replace(SMALL, frames=7).describe() == SMALL.describe()
    for change in ({"rate_hz": 31.0}, {"width": 66}, {"cameras": 2}, {"encoding": "mono8"}):
        assert replace(SMALL, **change).describe() != SMALL.describe()
    both = replace(SMALL, cameras=2)
    assert both.name == "64x48 bgr8 raw at 30 Hz, 2 cameras"
    assert both.total == 20
    assert replace(SMALL, transport="compressed").name == "64x48 compressed at 30 Hz"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate_hz": 0.0}, "--rate must be 0.001 to 1000, found 0"),
        ({"rate_hz": float("nan")}, "--rate .* found nan"),
        ({"frames": 0}, "--frames must be 1 to"),
        ({"warm_up_frames": -1}, "--warm-up must be 0 to"),
        ({"cameras": 9}, "--cameras must be 1 to 8, found 9"),
        ({"width": 8}, "--size 8x48: a side has 16 to"),
        ({"width": 20_000}, "--size 20000x48: at most 16384 pixels a side"),
        ({"width": 8192, "height": 8192}, "--size 8192x8192: .* 16777216 in all"),
        ({"encoding": "rgb12"}, "--encoding must be one of rgb8, .*, found 'rgb12'"),
        ({"transport": "theora"}, "--transport must be one of raw, compressed"),
        ({"width": 65, "encoding": "yuyv"}, "--size 65x48: yuyv needs even numbers"),
        ({"height": 47, "encoding": "nv12"}, "--size 64x47: nv12 needs even numbers"),
        ({"topic": "/a"}, "--topic names a topic of a bag"),
    ],
)
def test_wrong_options_are_named(change, words):
    with pytest.raises(ConfigError, match=words) as caught:
        replace(SMALL, **change)
    assert "\n" not in str(caught.value)


def test_wrong_sources_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--images .*: no folder with \.jpg"):
        replace(SMALL, images=tmp_path)
    with pytest.raises(ConfigError, match="exclude each other"):
        replace(SMALL, images=tmp_path, bag=tmp_path)
    with pytest.raises(BagError, match="no such bag"):
        replace(SMALL, bag=tmp_path / "nothing")
    bag = write_bag(tmp_path / "bag", [("/a", IMAGE, 1, b"\x00\x01\x00\x00garbage")])
    with pytest.raises(ConfigError, match="/a cannot be played"):
        replace(SMALL, bag=bag)
    big = image_message(smooth(30, 40), little_endian=False)
    bag = write_bag(tmp_path / "big", [("/a", IMAGE, 1, big)])
    with pytest.raises(ConfigError, match="/a is big-endian"):
        make_messages(replace(SMALL, bag=bag))


@given(width=st.integers(0, 99_999), height=st.integers(0, 99_999))
def test_sizes_are_parsed(width, height):
    assert parse_size(f"{width}x{height}") == (width, height)


@given(st.text())
def test_other_texts_are_no_sizes(text):
    try:
        width, height = parse_size(text)
    except ConfigError as error:
        assert "WIDTHxHEIGHT" in str(error)
    else:
        assert (width, height) == tuple(map(int, text.split("x")))
