# SPDX-License-Identifier: Apache-2.0
"""No bag takes more memory than its reader allows, whatever it unpacks to."""

from __future__ import annotations

import os
import struct

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from perception_node.errors import BagError
from perception_node.wire.bags import open_bag
from tests import hostile_bags as bags
from tests.bag_builders import Row, make_mcap
from tests.builders import TYPES, string_message
from tests.memory import peak_mib

pytestmark = pytest.mark.slow
IMPORTS = "from pathlib import Path\nfrom perception_node.wire.bags import open_bag"
READ = """
with open_bag(Path(sys.argv[1])) as bag:
    for message in bag.messages(list(bag.topics)):
        pass
"""
LIMIT_MIB = 600  # 256 of overlapping chunks, and the next
SMALL_MIB = 100


DOUBLING = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)
)


def refuse(path, limit=SMALL_MIB):
    """Read a bag in a process of its own; return why that ended."""
    peak, error = peak_mib(IMPORTS, READ, path)
    assert error.startswith("BagError: "), error
    assert "\n" not in error
    assert peak < limit, error
    return error


@pytest.mark.parametrize("method", ["zstd", "lz4"])
def test_a_chunk_that_unpacks_to_much_is_refused(tmp_path, method):
    for name, make in (("lying", bags.lying_chunk), ("honest", bags.honest_chunk)):
        (tmp_path / f"{name}.mcap").write_bytes(make(method))
        assert "bytes" in refuse(tmp_path / f"{name}.mcap")


def test_chunks_of_the_same_time_are_not_all_unpacked(tmp_path):
    (tmp_path / "bag.mcap").write_bytes(bags.overlapping_chunks())
    assert "overlap in time" in refuse(tmp_path / "bag.mcap", LIMIT_MIB)


def test_a_record_that_states_much_is_refused(tmp_path):
    (tmp_path / "bag.mcap").write_bytes(bags.long_record())
    assert "longer than the file" in refuse(tmp_path / "bag.mcap")


@pytest.mark.parametrize("size", [1 << 20, 1 << 30], ids=["lying", "honest"])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_chunk_of_ros_1_that_unpacks_to_much_is_refused(tmp_path, size, is_indexed):
    (tmp_path / "a.bag").write_bytes(bags.ros1_chunk(size, is_indexed=is_indexed))
    peak, error = peak_mib(IMPORTS, READ, tmp_path / "a.bag")
    assert error.startswith("BagError: ") == is_indexed  # without an index it ends there
    assert peak < SMALL_MIB, error


@pytest.mark.parametrize(
    ("kind", "encoding", "data"),
    [
        ("foxglove.RawImage", "json", b"[" + b"[]," * (8 << 20) + b"[]]"),
        ("foxglove.RawImage", "json", b"[" + b"[]," * (5 << 20) + b"[]]"),
        ("foxglove.RawImage", "protobuf", b"\x32\xff\xff\xff\xff\x0f" + bytes(1 << 20)),
        ("sensor_msgs/Image", "ros1", bytes(12) + b"\xff" * (1 << 20)),
    ],
    ids=["long json", "json", "length", "ROS 1"],
)
def test_a_message_that_states_much_takes_no_more(tmp_path, kind, encoding, data):
    row = Row("/camera", kind, encoding, 1, data)
    (tmp_path / "bag.mcap").write_bytes(make_mcap([row], packing="zstd"))
    peak, error = peak_mib(IMPORTS, READ, tmp_path / "bag.mcap")
    assert (error, peak < LIMIT_MIB) == ("", True)


def test_a_packed_file_that_unpacks_to_much_is_refused(tmp_path):
    content = bags.zeros("zstd", 512)
    folder = bags.write_folder(
        tmp_path / "bag", content, "bag.mcap.zstd", mode="FILE", method="zstd"
    )
    assert "unpacks to more than" in refuse(folder)


def test_a_packed_message_that_unpacks_to_much_is_refused(tmp_path):
    data = bags.definitions() + bags.message(1, bags.zeros("zstd", 1024))
    folder = bags.write_folder(
        tmp_path / "bag", bags.mcap(data), "bag.mcap", mode="MESSAGE", method="zstd"
    )
    assert "unpacks to more than" in refuse(folder, 600)


@pytest.mark.parametrize(
    "messages",
    [
        [bags.VIEW],
        [bags.COMPUTED, "INSERT INTO messages(id, topic_id, timestamp) VALUES(1, 1, 1)"],
        [bags.NUMBER, "INSERT INTO messages VALUES(1, 1, 1, 5000000000)"],
        [bags.NUMBER, "INSERT INTO messages VALUES(1, 1, 1, NULL)"],
    ],
    ids=["view", "computed", "number", "nothing"],
)
def test_a_database_that_makes_up_messages_is_refused(tmp_path, messages):
    content = bags.database(tmp_path / "made", bags.TOPICS, bags.TOPIC, *messages)
    refuse(bags.write_folder(tmp_path / "bag", content, "bag.db3"))


@pytest.mark.parametrize(
    "more",
    [
        "a: &a [1, 1]\nb: [*a]\n",
        DOUBLING,
        "a: [" + "0," * 1_500_000 + "]\n",
        "a: " + "[" * 5000 + "]" * 5000 + "\n",
        "#" * (5 << 20),
    ],
    ids=["link", "doubling links", "many", "deep", "large"],
)
def test_metadata_that_grow_are_refused(tmp_path, more):
    folder = bags.write_folder(tmp_path / "bag", bags.mcap(b""), "bag.mcap")
    about = (folder / "metadata.yaml").read_text()
    (folder / "metadata.yaml").write_text(more + about)
    refuse(folder, 300)


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.mcap.zstd"])
def test_a_bag_whose_file_is_a_fifo_is_refused(tmp_path, name):
    mode = "file" if name.endswith("zstd") else "none"
    folder = bags.write_folder(tmp_path / "bag", b"", name, mode=mode, method="zstd")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "not a regular file" in refuse(folder)


def test_many_topics_make_no_long_line(tmp_path):
    channels = [
        struct.pack("<HH", n, 1) + bags.text(f"/{'t' * 900}{n}") + bags.text("cdr") + bags.text("")
        for n in range(5000)
    ]
    data = bags.definitions() + b"".join(bags.record(4, channel) for channel in channels)
    (tmp_path / "bag.mcap").write_bytes(bags.mcap(data))
    with open_bag(tmp_path / "bag.mcap") as bag, pytest.raises(BagError) as caught:
        bag.select(["/none"])
    assert str(caught.value).endswith("and 4980 more")
    assert len(str(caught.value)) < 25_000


# What is allowed is read as before

MODES = [getattr(CompressionMode, name) for name in ("NONE", "STORAGE", "MESSAGE", "FILE")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_packed_bags_are_read_as_rosbags_reads_them(tmp_path, mode, storage):
    if (mode, storage) == (CompressionMode.STORAGE, StoragePlugin.SQLITE3):
        pytest.skip("a database has no packing of its own")
    folder = tmp_path / "bag"
    writer = Writer(folder, version=9, storage_plugin=storage)
    if mode != CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = [
            writer.add_connection(topic, "std_msgs/msg/String", typestore=TYPES)
            for topic in ("/a", "/b")
        ]
        for number in range(500):
            time_ns = 1000 + number * 7 % 500  # not in the order of time
            data = string_message(f"{number} " * 1000)
            writer.write(connections[number % 2], time_ns, data)
    with Reader(folder) as reader:
        expected = [(c.topic, c.msgtype, t, bytes(data)) for c, t, data in reader.messages()]
    with open_bag(folder) as bag:
        assert [tuple(message) for message in bag.messages(["/a", "/b"])] == expected
        assert bag.count(["/a"]) == 250


def test_chunks_are_merged_by_time_and_read_without_an_index_in_their_order(tmp_path):
    def part(times):
        content = b"".join(bags.message(time_ns, b"%d" % time_ns) for time_ns in times)
        return bags.chunk("", content, len(content))

    first, second = part([1, 5, 9]), part([2, 6, 7])
    (tmp_path / "index.mcap").write_bytes(bags.mcap(first + second, [0, len(first)], 6))
    with open_bag(tmp_path / "index.mcap") as bag:
        assert [message.time_ns for message in bag.messages(["/talk"])] == [1, 2, 5, 6, 7, 9]
    data = bags.definitions() + bags.message(0, b"") + part([1, 2]) + bags.message(3, b"")
    (tmp_path / "none.mcap").write_bytes(bags.mcap(data))
    with open_bag(tmp_path / "none.mcap") as bag:
        assert bag.count(["/talk"]) == 4
        assert [message.time_ns for message in bag.messages(["/talk"])] == [0, 1, 2, 3]
