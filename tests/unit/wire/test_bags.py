# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil

import pytest
from rosbags.rosbag2 import StoragePlugin

from perception_node.errors import BagError
from perception_node.wire.bags import BagMessage, open_bag
from tests.builders import (
    START_NS,
    compressed_message,
    encode,
    image_message,
    solid,
    string_message,
    write_bag,
)

RAW, JPEG, STRING = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "std_msgs/msg/String",
)
IMAGE = image_message(solid((1, 2, 3), 4, 4))
PHOTO = compressed_message(encode(solid((200, 0, 0))))
MESSAGES = [
    ("/raw", RAW, START_NS, IMAGE),
    ("/jpeg", JPEG, START_NS + 10, PHOTO),
    ("/talk", STRING, START_NS + 20, string_message("hello")),
    ("/raw", RAW, START_NS + 30, IMAGE),
]


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def bag_folder(tmp_path, request):
    return write_bag(tmp_path / "bag", MESSAGES, request.param)


def data_file(folder):
    (file,) = [file for file in folder.iterdir() if file.suffix in {".mcap", ".db3"}]
    return file


def read_all(path):
    with open_bag(path) as bag:
        return list(bag.messages(list(bag.topics)))


def test_messages_come_out_as_they_went_in(bag_folder):
    assert read_all(bag_folder) == [BagMessage(*message) for message in MESSAGES]


def test_the_file_in_the_folder_is_the_bag_too(bag_folder):
    for name in (data_file(bag_folder).name, "metadata.yaml"):
        assert read_all(bag_folder / name) == [BagMessage(*message) for message in MESSAGES]


def test_only_the_topics_asked_for_are_read(bag_folder):
    with open_bag(bag_folder) as bag:
        assert [message.time_ns for message in bag.messages(["/raw"])] == [START_NS, START_NS + 30]


def test_topics_are_chosen_by_name_and_type(bag_folder):
    with open_bag(bag_folder) as bag:
        assert bag.topics == {"/raw": RAW, "/jpeg": JPEG, "/talk": STRING}
        assert bag.select(None) == bag.topics
        assert bag.select(None, (RAW, JPEG)) == {"/raw": RAW, "/jpeg": JPEG}
        assert bag.select(["/jpeg"], (RAW, JPEG)) == {"/jpeg": JPEG}
        assert bag.select(["/talk", "/raw"]) == {"/raw": RAW, "/talk": STRING}


@pytest.mark.parametrize("topic", ["/nothing", "/talk"])
def test_a_topic_that_is_missing_or_no_image_is_named(bag_folder, topic):
    with open_bag(bag_folder) as bag, pytest.raises(BagError) as caught:
        bag.select(["/raw", topic], (RAW, JPEG))
    assert str(caught.value) == f"{bag_folder}: no such topic: {topic}; choose from: /jpeg, /raw"


def test_a_bag_without_images_says_what_it_holds(tmp_path):
    folder = write_bag(tmp_path / "bag", MESSAGES[2:3])
    with open_bag(folder) as bag:
        with pytest.raises(BagError, match=r"no image topic; it holds /talk \(std_msgs"):
            bag.select(None, (RAW, JPEG))
        with pytest.raises(BagError, match="choose from: none"):
            bag.select(["/raw"], (RAW, JPEG))


def test_an_empty_bag_says_so(tmp_path):
    with open_bag(write_bag(tmp_path / "bag", [])) as bag:
        assert list(bag.messages([])) == []
        with pytest.raises(BagError, match="it holds nothing"):
            bag.select(None)


def refusal(path):
    with pytest.raises(BagError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_there_must_be_a_bag(tmp_path):
    assert "no such bag" in refusal(tmp_path / "nowhere")
    assert "holds no bag, which is a .mcap, .db3 or .bag file" in refusal(tmp_path)


def test_a_folder_of_bags_says_which(bag_folder, tmp_path):
    assert "name one of the folders in it: bag" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", "a: [", "rosbag2_bagfile_information: 3", "\0", "{" * 300]
)
def test_damaged_metadata_is_an_error(bag_folder, content):
    (bag_folder / "metadata.yaml").write_text(content)
    assert "cannot be read" in refusal(bag_folder)


def test_a_missing_data_file_is_an_error(bag_folder):
    data_file(bag_folder).unlink()
    refusal(bag_folder)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"\x89MCAP0\r\n" + bytes(500)])
def test_garbage_is_an_error(bag_folder, content):
    data_file(bag_folder).write_bytes(content)
    assert "cannot be read" in refusal(bag_folder)


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_a_bag_that_was_cut_short_is_never_read_as_if_it_were_whole(bag_folder, kept):
    """What lies before the cut is read where the format allows it, and the cut is said."""
    file = data_file(bag_folder)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    try:
        with open_bag(bag_folder) as bag:
            found, remarks = list(bag.messages(list(bag.topics))), bag.remarks
    except BagError:
        assert file.suffix == ".db3" or kept < 0.1
        return
    assert file.suffix == ".mcap"
    assert found == [BagMessage(*message) for message in MESSAGES[: len(found)]]
    images = sum(message.type_name != STRING for message in found)
    assert len(remarks) == 1
    assert f"{file.name} was cut off or not closed: it is read up to byte " in remarks[0]
    assert remarks[0].endswith(f"; images: {images}")


def test_damage_in_the_middle_shows_up_while_reading(tmp_path):
    folder = write_bag(tmp_path / "bag", MESSAGES, StoragePlugin.SQLITE3)
    file = data_file(folder)
    content = bytearray(file.read_bytes())
    content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
    file.write_bytes(content)
    refusal(folder)


def test_errors_of_the_reader_of_a_bag_are_its_own(bag_folder):
    """What goes wrong with a message is no damage of the bag."""

    def fail_on_a_message():
        with open_bag(bag_folder) as bag:
            for _ in bag.messages(["/raw"]):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_a_message()


def test_reading_may_stop_early(bag_folder):
    with open_bag(bag_folder) as bag:
        messages = bag.messages(["/raw"])
        assert next(messages).time_ns == START_NS
        messages.close()
    shutil.rmtree(bag_folder)
