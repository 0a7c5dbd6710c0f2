# SPDX-License-Identifier: Apache-2.0
"""The same images come out of a bag, whoever recorded it and however it lies on the disk."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from perception_node.errors import BagError, MalformedMessage
from perception_node.wire.bags import BagMessage, open_bag
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, ImageReader
from tests import bag_builders as bags
from tests.bag_builders import Row, make_mcap, write_ros1
from tests.builders import (
    START_NS,
    TYPES,
    compressed_message,
    encode,
    image_message,
    quadrants,
    solid,
    string_message,
    write_bag,
)
from tests.hostile_bags import zstd

PICTURE = quadrants(6, 10)
PHOTO = encode(solid((0, 200, 0)))
STRING = "std_msgs/msg/String"
ROWS = [
    Row("/raw", RAW_TYPE, "cdr", START_NS + n, image_message(PICTURE, stamp_ns=START_NS + n))
    for n in range(5)
]
TIMES = [START_NS + n for n in range(5)]


def read_all(path):
    with open_bag(path) as bag:
        assert bag.remarks == []
        found = list(bag.messages(list(bag.topics)))
        assert bag.count(list(bag.topics)) == len(found)
    return found


def times(path, topics=("/raw",)):
    with open_bag(path) as bag:
        assert bag.count(list(topics)) == len(list(bag.messages(list(topics))))
        return [message.time_ns for message in bag.messages(list(topics))]


def refusal(path):
    with pytest.raises(BagError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path, content):
    path.write_bytes(content)
    return path


# Which file is read


def test_a_named_file_is_read_beside_the_metadata_of_another_bag(tmp_path):
    """The other bag was replayed instead, and nothing said so."""
    folder = write_bag(tmp_path / "bag", [("/other", STRING, 1, string_message("other"))])
    mine = write(folder / "mine.mcap", make_mcap(ROWS))
    assert times(mine) == TIMES
    (folder / "metadata.yaml").write_text("damaged: [")
    assert times(mine) == TIMES


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", ["NONE", "FILE", "MESSAGE"])
def test_a_file_by_itself_needs_no_metadata(tmp_path, storage, mode):
    """Neither does its folder; that messages are packed, they show themselves."""
    folder = tmp_path / "bag"
    writer = Writer(folder, version=9, storage_plugin=storage)
    if mode != "NONE":
        writer.set_compression(getattr(CompressionMode, mode), CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/raw", RAW_TYPE, typestore=TYPES)
        for row in ROWS:
            writer.write(connection, row.time_ns, row.data)
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    expected = [BagMessage(row.topic, row.schema, row.time_ns, row.data) for row in ROWS]
    assert read_all(folder) == expected
    assert read_all(file) == expected
    assert read_all(file.rename(tmp_path / "no_suffix")) == expected


def test_parts_of_a_bag_are_read_in_the_order_of_their_numbers(tmp_path):
    names = ["trip_0.mcap", "trip_1.mcap", "trip_2.mcap", "trip_10.mcap"]
    for number, name in enumerate(names):
        write(tmp_path / name, make_mcap(ROWS[number : number + 1]))
    assert times(tmp_path) == TIMES[:4]
    assert times(tmp_path / "trip_2.mcap") == TIMES[2:3]


def test_parts_of_a_bag_of_ros_1_are_read_as_one(tmp_path):
    for number in range(2):
        row = ("/raw", RAW_TYPE, TIMES[number], bags.ros1_image(PICTURE))
        write_ros1(tmp_path / f"trip_2020-01-01-00-00-0{number}_{number}.bag", [row])
    assert times(tmp_path) == TIMES[:2]


@pytest.mark.parametrize("rest", [b"", make_mcap(ROWS)[:12]])
def test_the_last_part_of_a_bag_may_hold_nothing(tmp_path, rest):
    """Where the power is lost, it is empty or nearly so."""
    write(tmp_path / "trip_0.mcap", make_mcap(ROWS))
    last = write(tmp_path / "trip_1.mcap", rest)
    assert times(tmp_path) == TIMES
    with open_bag(tmp_path) as bag:
        assert len(bag.remarks) == 1
        assert bag.remarks[0].startswith("trip_1.mcap is left out: it ")
    assert "it " in refusal(last)


def test_bags_in_one_folder_are_not_mixed(tmp_path):
    write(tmp_path / "a.mcap", make_mcap(ROWS))
    write(tmp_path / "b.mcap", make_mcap(ROWS))
    assert "holds 2 bags; name one of these files: a.mcap, b.mcap" in refusal(tmp_path)


def test_files_that_were_packed_or_unpacked_since_are_found(tmp_path):
    folder = write_bag(tmp_path / "bag", [row[:2] + row[3:] for row in ROWS])
    (file,) = folder.glob("*.mcap")
    write(folder / f"{file.name}.zstd", zstd.compress(file.read_bytes()))
    file.unlink()
    assert times(folder) == TIMES


def test_what_metadata_names_and_is_not_there_is_said(tmp_path):
    folder = write_bag(tmp_path / "bag", [row[:2] + row[3:] for row in ROWS])
    (file,) = folder.glob("*.mcap")
    file.unlink()
    said = refusal(folder)
    assert f"metadata.yaml names what is missing: {file.name}; " in said
    assert said.endswith(f"run: ros2 bag reindex {folder}")


@pytest.mark.parametrize("storage", ["mcap", "''", ""])
def test_an_empty_storage_id_does_not_matter(tmp_path, storage):
    folder = write_bag(tmp_path / "bag", [row[:2] + row[3:] for row in ROWS])
    file = folder / "metadata.yaml"
    changed = file.read_text().replace(
        "storage_identifier: mcap", f"storage_identifier: {storage}"
    )
    assert changed.count(f"storage_identifier: {storage}\n") == 1
    file.write_text(changed)
    assert times(folder) == TIMES


def test_another_storage_is_named_with_the_command_that_converts_it(tmp_path):
    folder = write_bag(tmp_path / "bag", [row[:2] + row[3:] for row in ROWS])
    file = folder / "metadata.yaml"
    file.write_text(file.read_text().replace("mcap", "rosbag_v2"))
    said = refusal(folder)
    assert "it is stored by 'rosbag_v2'; run: echo" in said
    assert f"ros2 bag convert -i {folder} -o to.yaml" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08" + bytes(20), "packed by gzip; run: gunzip -k "),
        (b"PK\x03\x04" + bytes(20), "a zip archive; run: unzip "),
        (b"#ROSBAG V1.2\n" + bytes(20), "a bag of an older version of ROS 1; run: rosbag fix "),
        (b"hello", "it is no bag: neither mcap, sqlite3 nor a .bag file of ROS 1"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path, content, words):
    assert words in refusal(write(tmp_path / "my bag.mcap", content))


# MCAP with and without indexes

FORMS = {
    "whole": {},
    "no message index": {"message_index": False},
    "no chunk index": {"chunk_index": False},
    "no index": {"chunk_index": False, "message_index": False},
    "no statistics": {"statistics": False},
    "no summary": {"summary": False},
    "no chunks": {"chunk_rows": 0},
    "no chunks, no summary": {"chunk_rows": 0, "summary": False},
    "one chunk": {"chunk_rows": 9},
    "zstd": {"packing": "zstd"},
    "lz4, no index": {"packing": "lz4", "chunk_index": False},
    "no profile": {"profile": ""},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_mcap_is_read_with_any_index_or_none(tmp_path, form):
    expected = [BagMessage(row.topic, row.schema, row.time_ns, row.data) for row in ROWS]
    assert read_all(write(tmp_path / "bag.mcap", make_mcap(ROWS, **form))) == expected


def test_without_chunks_messages_come_in_the_order_of_the_file(tmp_path):
    mixed = [ROWS[n] for n in (2, 0, 1)]
    file = write(tmp_path / "bag.mcap", make_mcap(mixed, chunk_rows=0))
    assert times(file) == [mixed[n].time_ns for n in range(3)]
    assert times(write(file, make_mcap(mixed, chunk_rows=1, chunk_index=False))) == TIMES[:3]


def test_an_index_that_leaves_messages_out_is_no_silent_loss(tmp_path):
    """Channel 1 is in the second chunk too, which its index hides."""
    rows = [ROWS[0], Row("/talk", STRING, "cdr", START_NS + 1, string_message("a")), *ROWS[2:4]]
    content = make_mcap(rows)
    shown, hidden = b"\x0a\0\0\0\x01\0" + bytes(8), b"\x0a\0\0\0\x02\0" + bytes(8)
    assert content.count(shown) == 1
    file = write(tmp_path / "bag.mcap", content.replace(shown, hidden))
    with open_bag(file) as bag, pytest.raises(BagError) as caught:
        list(bag.messages(["/raw"]))
    assert "2 messages of it are not where its index says" in str(caught.value)


@pytest.mark.parametrize("encoding", ["json", "protobuf", "ros1", "flatbuffer", ""])
def test_another_topic_that_cannot_be_read_costs_no_image(tmp_path, encoding):
    other = Row("/status", "my.Status", encoding, START_NS, b"{}")
    file = write(tmp_path / "bag.mcap", make_mcap([other, *ROWS]))
    assert times(file) == TIMES
    with open_bag(file) as bag:
        assert bag.topics == {"/raw": RAW_TYPE}
        assert bag.unreadable == {"/status": f"my.Status as {encoding}"}
        with pytest.raises(BagError, match=r"/status holds my\.Status as .*; choose from: /raw"):
            bag.select(["/status"])


def test_another_topic_of_a_database_that_cannot_be_read_costs_no_image(tmp_path):
    rows = [("/talk", STRING, START_NS, string_message("a")), *(r[:2] + r[3:] for r in ROWS)]
    folder = write_bag(tmp_path / "bag", rows, StoragePlugin.SQLITE3)
    (file,) = folder.glob("*.db3")
    database = sqlite3.connect(file)
    database.execute("UPDATE topics SET serialization_format = 'odd' WHERE name = '/talk'")
    database.commit()
    database.close()
    assert times(folder) == TIMES
    with open_bag(folder) as bag:
        assert bag.unreadable == {"/talk": f"{STRING} as odd"}


def test_messages_in_the_log_beside_a_database_are_read(tmp_path):
    """A recorder that lost its power leaves them there."""
    folder = write_bag(
        tmp_path / "bag", [row[:2] + row[3:] for row in ROWS[:3]], StoragePlugin.SQLITE3
    )
    (file,) = folder.glob("*.db3")
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode = WAL")
    columns = "(topic_id, timestamp, data)"
    again = "SELECT topic_id, ?, data FROM messages LIMIT 1"
    database.execute(f"INSERT INTO messages {columns} {again}", [TIMES[3]])
    database.commit()
    left = shutil.copytree(folder, tmp_path / "left")
    database.close()
    assert times(left) == TIMES[:4]


# ROS 1

PACKINGS = [None, Ros1Writer.CompressionFormat.BZ2, Ros1Writer.CompressionFormat.LZ4]


def ros1_rows():
    yield "/raw", RAW_TYPE, START_NS, bags.ros1_image(PICTURE, stamp_ns=START_NS + 5)
    yield "/talk", STRING, START_NS + 1, bags.ros1_string("hello")
    yield (
        "/jpeg",
        COMPRESSED_TYPE,
        START_NS + 2,
        bags.ros1_compressed(PHOTO, stamp_ns=START_NS + 6),
    )


ROS1_AS_ROS2 = [
    BagMessage("/raw", RAW_TYPE, START_NS, image_message(PICTURE, stamp_ns=START_NS + 5)),
    BagMessage(
        "/jpeg", COMPRESSED_TYPE, START_NS + 2, compressed_message(PHOTO, stamp_ns=START_NS + 6)
    ),
]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_images_of_ros_1_become_those_of_ros_2(tmp_path, packing, chunk_bytes):
    file = write_ros1(tmp_path / "a.bag", ros1_rows(), packing, chunk_bytes)
    assert read_all(file) == ROS1_AS_ROS2
    with open_bag(file) as bag:
        assert bag.unreadable == {"/talk": "std_msgs/String as ros1"}
        with pytest.raises(BagError) as caught:
            bag.select(["/talk"])
    advice = f"choose from: /jpeg, /raw; or run: rosbags-convert --src {file} --dst converted"
    assert str(caught.value).endswith(f"/talk holds std_msgs/String as ros1; {advice}")


def test_ros_1_messages_in_mcap_are_read_too(tmp_path):
    rows = [
        Row(topic, kind.replace("/msg/", "/"), "ros1", time_ns, data)
        for topic, kind, time_ns, data in ros1_rows()
    ]
    file = write(tmp_path / "bag.mcap", make_mcap(rows, profile="ros1"))
    assert read_all(file) == ROS1_AS_ROS2


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_bag_of_ros_1_without_index_is_read_and_said(tmp_path, packing):
    file = write_ros1(tmp_path / "a.bag", ros1_rows(), packing, 1)
    content = file.read_bytes()
    place = content.index(b"index_pos=") + 10
    index = int.from_bytes(content[place : place + 8], "little")
    write(file, content[:place] + bytes(8) + content[place + 8 : index])
    with open_bag(file) as bag:
        assert list(bag.messages(["/raw", "/jpeg"])) == ROS1_AS_ROS2
        assert len(bag.remarks) == 1
        assert f"read up to byte {index}, which is 1700000000.000 s; images: 2" in bag.remarks[0]


def test_the_chunk_that_a_recorder_was_filling_is_read(tmp_path):
    """Its head states no size yet, and its records follow."""
    file = write_ros1(tmp_path / "a.bag.active", ros1_rows())
    content = file.read_bytes()
    place = content.index(b"index_pos=") + 10
    index = int.from_bytes(content[place : place + 8], "little")
    content = content[:place] + bytes(8) + content[place + 8 : index]
    place = content.index(b"size=") + 5
    size = content[place : place + 4]
    behind = content.index(size, place + 4)  # how many bytes follow
    content = (
        content[:place] + bytes(4) + content[place + 4 : behind] + bytes(4) + content[behind + 4 :]
    )
    with open_bag(write(file, content[: behind + 4 + int.from_bytes(size, "little") - 3])) as bag:
        assert list(bag.messages(["/raw", "/jpeg"])) == ROS1_AS_ROS2[:1]
        assert bag.remarks[0].endswith("; images: 1")


# Foxglove


@pytest.mark.parametrize(
    ("schema", "encoding", "data"),
    [
        ("foxglove.RawImage", "protobuf", bags.protobuf_raw(PICTURE)),
        ("foxglove.RawImage", "json", bags.json_raw(PICTURE)),
        ("foxglove.CompressedImage", "protobuf", bags.protobuf_compressed(PHOTO)),
        ("foxglove.CompressedImage", "json", bags.json_compressed(PHOTO)),
    ],
)
def test_images_of_foxglove_become_those_of_ros_2(tmp_path, schema, encoding, data):
    row = Row("/camera", schema, encoding, START_NS, data)
    (message,) = read_all(write(tmp_path / "bag.mcap", make_mcap([row], profile="")))
    is_raw = "Raw" in schema
    expected = image_message(PICTURE) if is_raw else compressed_message(PHOTO)
    assert message == BagMessage(
        "/camera", RAW_TYPE if is_raw else COMPRESSED_TYPE, START_NS, expected
    )


@pytest.mark.parametrize(
    ("schema", "encoding", "data"),
    [
        ("foxglove.RawImage", "protobuf", bags.protobuf_raw(PICTURE)[:-1]),
        ("foxglove.RawImage", "protobuf", b"\xff" * 30),
        ("foxglove.CompressedImage", "json", b"[" * 100_000),
        ("foxglove.CompressedImage", "json", b'{"data": 3}'),
        ("foxglove.CompressedImage", "json", b" " * (17 << 20)),
        ("sensor_msgs/Image", "ros1", bags.ros1_image(PICTURE)[:-1]),
    ],
)
def test_a_damaged_image_is_one_image(tmp_path, schema, encoding, data):
    row = Row("/camera", schema, encoding, START_NS, data)
    (message,) = read_all(write(tmp_path / "bag.mcap", make_mcap([row])))
    assert message.data == b""
    with pytest.raises(MalformedMessage):
        ImageReader("raw", 1 << 20, 1).read(message.data)
