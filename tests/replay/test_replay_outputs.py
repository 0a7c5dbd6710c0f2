# SPDX-License-Identifier: Apache-2.0
"""What ``perception replay`` writes: bags with results, a page, JUnit XML."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from perception_node.cli import main
from perception_node.ros.definitions import CLASSIFICATION_TYPE, make_typestore
from perception_node.ros.result_bag import NODE_NAME, open_result_bag
from perception_node.ros.result_topics import name_prefixes
from perception_node.wire.bags import BagMessage, open_bag
from tests.builders import (
    BLUE,
    GREEN,
    LABELS,
    RED,
    START_NS,
    compressed_message,
    encode,
    image_message,
    solid,
    write_bag,
)

RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FRONT, REAR = "/front/image", "/rear/image/compressed"
MESSAGES = [
    (FRONT, RAW, START_NS, image_message(solid(RED), stamp_ns=START_NS - 5)),
    (REAR, JPEG, START_NS + 10, compressed_message(encode(solid(GREEN)))),
    (REAR, JPEG, START_NS + 30, compressed_message(b"broken")),
    (FRONT, RAW, START_NS + 50, image_message(solid(BLUE), frame_id="lens")),
]


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "bag", MESSAGES)


@pytest.fixture
def replay(capsys, color_bundle, bag):
    """Replay the bag in this process; return the exit code and what was printed."""

    def run(*arguments):
        code = main(["replay", str(bag), *map(str, arguments), "--model", str(color_bundle)])
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, captured.out

    return run


@pytest.fixture
def golden(replay, tmp_path):
    """A golden file that a test may change."""
    file = tmp_path / "golden.jsonl"
    assert replay("--golden", file, "--update-golden")[0] == 0
    return file


def change(golden, number, **fields):
    """Change a line of a golden file; None takes a field away."""
    records = [json.loads(line) for line in golden.read_text().splitlines()]
    record = {**records[number], **fields}
    records[number] = {key: value for key, value in record.items() if value is not None}
    golden.write_text("".join(json.dumps(record) + "\n" for record in records))


# --out


def read_out(path):
    """Return (topic, type, schema, time, message) rows of a bag, the images as bytes."""
    store = make_typestore()
    with Reader(path) as reader:
        return [
            (
                c.topic,
                c.msgtype,
                c.msgdef.data,
                time_ns,
                bytes(data) if "Image" in c.msgtype else store.deserialize_cdr(data, c.msgtype),
            )
            for c, time_ns, data in reader.messages()
        ]


@pytest.mark.parametrize("name", ["results.mcap", "results"])
def test_classifications_lie_beside_their_images(replay, tmp_path, name):
    path = tmp_path / name
    before = set(tmp_path.iterdir())
    code, printed = replay("--out", path)
    assert code == 0
    assert set(tmp_path.iterdir()) - before == {path}
    assert path.is_file() == (name == "results.mcap")
    rows = read_out(path)
    assert [row[:2] + row[3:] for row in rows if "Image" in row[1]] == MESSAGES
    results = [row for row in rows if row[1] == CLASSIFICATION_TYPE]
    assert all("MSG: vision_msgs/ObjectHypothesis\n" in row[2] for row in results)
    records = [json.loads(line) for line in printed.splitlines()]
    wanted = [record for record in records if "dropped" not in record]
    assert len(results) == len(wanted) == 3
    for (topic, _, _, time_ns, message), record in zip(results, wanted, strict=True):
        assert topic == f"/{record['topic'].split('/')[1]}/perception/classification"
        assert time_ns == record["time_ns"]
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == record["stamp_ns"]
        assert message.header.frame_id == record["frame_id"]
        found = [(one.class_id, one.score) for one in message.results]
        assert found == [(one["class_id"], one["score"]) for one in record["results"]]


def test_the_labels_are_there_once_per_camera(replay, tmp_path):
    replay("--out", tmp_path / "results.mcap")
    rows = [row for row in read_out(tmp_path / "results.mcap") if "LabelInfo" in row[1]]
    assert [row[0] for row in rows] == [f"/{c}/perception/label_info" for c in ("front", "rear")]
    for *_, message in rows:
        classes = {one.class_id: one.class_name for one in message.class_map}
        assert classes == dict(enumerate(LABELS))


@pytest.mark.parametrize("name", ["results.mcap", "results"])
def test_what_is_written_can_be_replayed(replay, capsys, color_bundle, tmp_path, name):
    _, printed = replay("--out", tmp_path / name)
    assert main(["replay", str(tmp_path / name), "--model", str(color_bundle)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", ["results.mcap", "results"])
def test_writing_that_is_interrupted_leaves_nothing(tmp_path, name):
    def write():
        with open_result_bag(tmp_path / name, {FRONT: RAW}, LABELS) as results:
            results.write(BagMessage(*MESSAGES[0]), {"dropped": "codec"})
            assert list(tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_and_a_folder_is_not(replay, tmp_path, capsys, bag, color_bundle):
    file = tmp_path / "results.mcap"
    file.write_bytes(b"old")
    assert replay("--out", file)[0] == 0
    with open_bag(file) as results:
        assert FRONT in results.topics
    arguments = ["replay", str(bag), "--model", str(color_bundle), "--out", str(bag)]
    assert main(arguments) == 2
    error = f"perception: {bag}: exists already; remove it or give another name\n"
    assert capsys.readouterr().err == error


def test_the_bag_that_is_replayed_is_not_overwritten(capsys, bag, color_bundle):
    (file,) = bag.glob("*.mcap")
    before = file.read_bytes()
    for given in (bag, file):
        arguments = ["replay", str(given), "--model", str(color_bundle), "--out", str(file)]
        assert main(arguments) == 2
        assert "is the bag that is replayed; give another name" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_results_go_where_a_node_would_have_them():
    assert name_prefixes(["/image"], NODE_NAME) == {"/image": "/perception"}
    two = name_prefixes(["/front/image_raw", "/rear/image_raw/compressed"], NODE_NAME)
    assert list(two.values()) == ["/front/perception", "/rear/perception"]
    same = name_prefixes(["/front/image_raw", "/front/image_raw/compressed"], NODE_NAME)
    assert list(same.values()) == [
        "/front/image_raw/perception",
        "/front/image_raw/compressed/perception",
    ]


# --report


def pictures_of(page):
    """Return the pictures of a page as arrays."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    data = (np.frombuffer(base64.b64decode(text), np.uint8) for text in found)
    return [cv2.imdecode(one, cv2.IMREAD_COLOR) for one in data]


def test_the_page_shows_what_changed(replay, golden, tmp_path):
    results = [{"class_id": "7", "label": "<script>alert(1)</script>", "score": 0.5}]
    change(golden, 0, results=results)
    change(golden, 3, frame_id="eye")
    page_file = tmp_path / "report/index.html"
    code, printed = replay("--golden", golden, "--report", tmp_path / "report")
    assert code == 1
    assert printed.endswith(f"2 of 4 frames differ from {golden}\nreport: {page_file}\n")
    page = page_file.read_text()
    assert "2 of 4 frames differ" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "frame_id eye" in page
    red, blue = pictures_of(page)
    for picture, color in ((red, RED), (blue, BLUE)):
        assert picture.shape == (48, 64, 3)
        assert np.abs(picture.mean(axis=(0, 1)) - color[::-1]).max() < 10
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_a_frame_without_a_picture_is_said(replay, golden, tmp_path):
    change(golden, 2, dropped="stamp")
    assert replay("--golden", golden, "--report", tmp_path / "page.html")[0] == 1
    page = (tmp_path / "page.html").read_text()
    assert pictures_of(page) == []
    assert "the frame cannot be read" in page
    assert "dropped (codec): no JPEG, PNG, WebP or TIFF" in page


def test_a_page_without_changes_says_so(replay, golden, tmp_path):
    assert replay("--golden", golden, "--report", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "4 frames as expected" in page
    assert "Changed frames" not in page


def test_a_long_page_is_cut(tmp_path, color_bundle, capsys):
    image = image_message(solid(RED, 8, 8))
    many = write_bag(tmp_path / "many", [(FRONT, RAW, START_NS + n, image) for n in range(120)])
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"topic": "/other"}\n')
    arguments = ["--golden", str(golden), "--report", str(tmp_path / "page.html")]
    assert main(["replay", str(many), "--model", str(color_bundle), *arguments]) == 1
    capsys.readouterr()
    page = (tmp_path / "page.html").read_text()
    assert len(pictures_of(page)) == 100
    assert "The first 100 of 120." in page


# --junit


def test_junit_has_a_case_per_topic(replay, golden, tmp_path):
    assert replay("--golden", golden, "--junit", tmp_path / "junit.xml")[0] == 0
    root = ET.parse(tmp_path / "junit.xml").getroot()
    assert [case.get("name") for case in root.iter("testcase")] == [FRONT, REAR]
    assert (root.get("tests"), root.get("failures")) == ("2", "0")


def test_junit_has_a_failure_per_changed_frame(replay, golden, tmp_path):
    change(golden, 0, frame_id="bell \x07 & <b>")
    change(golden, 3, dropped="codec", results=None)
    code, printed = replay("--golden", golden, "--junit", tmp_path / "junit.xml")
    assert code == 1
    root = ET.parse(tmp_path / "junit.xml").getroot()
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == [REAR, f"{FRONT} frame 1", f"{FRONT} frame 4"]
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    messages = [failure.get("message") for failure in root.iter("failure")]
    assert messages == printed.splitlines()[:2]
