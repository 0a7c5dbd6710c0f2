# SPDX-License-Identifier: Apache-2.0
"""Bags that were cut off or damaged: what lies before the cut is read, and nothing is made up."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin

from perception_node.errors import BagError
from perception_node.wire.bags import open_bag
from perception_node.wire.channels import CONVERSIONS
from perception_node.wire.images import RAW_TYPE, TRANSPORTS
from tests import bag_builders as bags
from tests.bag_builders import Row, make_mcap, write_ros1
from tests.builders import START_NS, encode, image_message, quadrants, solid, write_bag
from tests.hostile_bags import zstd

PICTURE = quadrants(4, 6)
ROWS = [
    Row("/raw", RAW_TYPE, "cdr", START_NS + n, image_message(PICTURE, stamp_ns=n))
    for n in range(6)
]
PHOTO = bags.json_compressed(encode(solid((9, 9, 9), 8, 8)))
MIXED = [*ROWS, Row("/photo", "foxglove.CompressedImage", "json", START_NS + 9, PHOTO)]
STEP_BYTES = 50
END_BYTES = 28  # of the footer, which say nothing of the messages
ROS1_HEADER_BYTES = 4117  # with blanks


def _make_ros1(folder, packing):
    rows = [("/raw", RAW_TYPE, row.time_ns, bags.ros1_image(PICTURE)) for row in ROWS]
    return write_ros1(folder / "a.bag", rows, packing, 400).read_bytes()


def _make_database(folder):
    rows = [row[:2] + row[3:] for row in ROWS]
    (file,) = write_bag(folder / "bag", rows, StoragePlugin.SQLITE3).glob("*.db3")
    return file.read_bytes()


MAKERS = {
    "mcap": lambda _: make_mcap(MIXED),
    "mcap, zstd": lambda _: make_mcap(MIXED, packing="zstd", chunk_rows=3),
    "mcap, lz4": lambda _: make_mcap(MIXED, packing="lz4", chunk_rows=9),
    "mcap, no chunks": lambda _: make_mcap(MIXED, chunk_rows=0),
    "mcap.zstd": lambda _: zstd.compress(make_mcap(MIXED)),
    "ROS 1": lambda folder: _make_ros1(folder, None),
    "ROS 1, bz2": lambda folder: _make_ros1(folder, Ros1Writer.CompressionFormat.BZ2),
    "ROS 1, lz4": lambda folder: _make_ros1(folder, Ros1Writer.CompressionFormat.LZ4),
    "sqlite3": _make_database,
}


@cache
def content_of(form):
    with tempfile.TemporaryDirectory() as folder:
        return MAKERS[form](Path(folder))


def read(path, content):
    """Return the messages and the remarks; None if the bag is refused, in one line."""
    path.write_bytes(content)
    try:
        with open_bag(path) as bag:
            return list(bag.messages(list(bag.topics))), bag.remarks
    except BagError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{path}: ")
        return None


@pytest.mark.parametrize("form", MAKERS)
def test_a_bag_that_was_cut_anywhere_is_read_up_to_there(tmp_path, form):
    content = content_of(form)
    whole, remarks = read(tmp_path / "bag", content)
    assert (len(whole) >= len(ROWS), remarks) == (True, [])
    counts = []
    for kept in range(1, len(content), STEP_BYTES):
        found = read(tmp_path / "bag", content[:kept])
        if found is None:
            begin = ROS1_HEADER_BYTES if form.startswith("ROS 1") else 50
            assert form in {"sqlite3", "mcap.zstd"} or kept < begin
            continue
        messages, remarks = found
        images = sum(message.type_name in TRANSPORTS for message in messages)
        assert messages == whole[: len(messages)]
        if kept < len(content) - END_BYTES:
            assert len(remarks) == 1
            assert remarks[0].endswith(f"; images: {images}")
        counts.append(images)
    assert counts == sorted(counts)
    if form not in {"sqlite3", "mcap.zstd"}:
        assert counts[-1] >= len(ROWS) - 2
    if form in {"mcap", "mcap, no chunks"}:  # what is not packed is read up to the byte
        assert set(range(len(ROWS))) <= set(counts)


@pytest.mark.parametrize("zeros", [9, 100, 70_000])
@pytest.mark.parametrize("form", ["mcap", "mcap, no chunks", "ROS 1"])
def test_zeros_behind_the_cut_are_no_messages(tmp_path, form, zeros):
    """A file system may have made room for what was never written."""
    content = content_of(form)
    for part in (0.3, 0.5, 0.7):
        begin = ROS1_HEADER_BYTES if form.startswith("ROS 1") else 0
        cut = content[: begin + int((len(content) - begin) * part)]
        messages, _ = read(tmp_path / "bag", cut)
        found, remarks = read(tmp_path / "bag", cut + bytes(zeros))
        assert found[: len(messages)] == messages
        assert len(found) - len(messages) <= 1  # one whose last bytes were zeros
        assert len(remarks) == 1


def test_damage_in_a_file_that_has_its_end_is_an_error_with_the_command_that_may_help(tmp_path):
    content = bytearray(content_of("mcap, zstd"))
    place = content.index(b"\x28\xb5\x2f\xfd") + 30
    content[place] ^= 0xFF
    path = tmp_path / "my bag.mcap"
    path.write_bytes(content)
    with open_bag(path) as bag, pytest.raises(BagError) as caught:
        list(bag.messages(["/raw"]))
    assert str(caught.value).endswith(f"; try: mcap recover '{path}' -o whole.mcap")


@pytest.mark.parametrize("form", MAKERS)
def test_any_damage_is_one_line_or_no_harm(form):
    content = content_of(form)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.data())
    def check(data):
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(content) - 1))
            changed[place] = data.draw(st.integers(0, 255))
        with tempfile.TemporaryDirectory() as folder:
            read(Path(folder) / "bag", bytes(changed))

    check()


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.text(max_size=3), st.none(), st.lists(st.none())
)
TIME = st.dictionaries(st.sampled_from(["sec", "nsec"]), NUMBERS)
KEYS = ("width", "height", "encoding", "step", "data", "timestamp", "frame_id", "format")
FIELDS = st.dictionaries(st.sampled_from(KEYS), st.one_of(NUMBERS, TIME))
ANYTHING = st.one_of(st.binary(max_size=200), FIELDS.map(json.dumps).map(str.encode))


@pytest.mark.parametrize(("encoding", "kind"), CONVERSIONS)
def test_every_conversion_takes_any_bytes(tmp_path, encoding, kind):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(ANYTHING)
    def check(data):
        found, _ = read(tmp_path / "bag", make_mcap([Row("/a", kind, encoding, 1, data)]))
        assert len(found) == 1

    check()
