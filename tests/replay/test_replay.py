# SPDX-License-Identifier: Apache-2.0
"""The real command on real bags: same input, same bytes; any change in the results is noticed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from perception_node.cli import main
from perception_node.errors import ConfigError
from perception_node.replay.golden import compare
from perception_node.replay.golden_file import write_golden
from perception_node.replay.tolerance import Tolerance
from tests.bag_builders import ros1_compressed, ros1_image, write_ros1
from tests.builders import (
    BLUE,
    GREEN,
    RED,
    SAMPLE_BAG,
    START_NS,
    TYPES,
    color_network,
    compressed_message,
    encode,
    image_message,
    make_bundle,
    perception,
    solid,
    string_message,
    write_bag,
)

GOLDEN = SAMPLE_BAG / "golden.jsonl"
RAW, JPEG, STRING = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "std_msgs/msg/String",
)
MESSAGES = [
    ("/raw", RAW, START_NS, image_message(solid(RED), stamp_ns=START_NS - 5)),
    ("/jpeg", JPEG, START_NS + 10, compressed_message(encode(solid(GREEN)))),
    ("/talk", STRING, START_NS + 20, string_message("hello")),
    ("/jpeg", JPEG, START_NS + 30, compressed_message(b"broken")),
    ("/raw", RAW, START_NS + 40, image_message(solid(BLUE), encoding="32FC1")),
    ("/raw", RAW, START_NS + 50, image_message(solid(BLUE))),
]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def replay(capsys, color_bundle):
    """Run the verb in this process with the model that knows three colours."""

    def run(*arguments, model=color_bundle):
        code = main(["replay", *map(str, arguments), "--model", str(model)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_deep_images_become_bytes_in_the_range_of_their_topic(replay, tmp_path):
    samples = np.zeros((8, 8, 3), "<u2")
    samples[..., 2] = 4095
    meters = np.full((8, 8), 3, "<f4")
    size = {"height": 8, "width": 8}
    messages = [
        ("/12_bits", RAW, START_NS, image_message(samples.view("u1"), "rgb16", **size)),
        ("/depth", RAW, START_NS + 1, image_message(meters.view("u1"), "32FC1", **size)),
    ]
    bag = write_bag(tmp_path / "deep", messages)
    code, out, err = replay(bag, "--mono16-range", "auto", "--mono32-range", "0.5,5")
    first, second = map(json.loads, out.splitlines())
    assert (code, err) == (0, "")
    assert first["results"][0]["label"] == "blue"
    assert first["results"][0]["score"] == pytest.approx(0.999987, abs=1e-5)
    assert second["results"][0]["score"] == pytest.approx(1 / 3, abs=1e-4)
    code, out, err = replay(bag)
    first, second = map(json.loads, out.splitlines())
    assert err.startswith("/12_bits: the 16-bit images use only values 0 to 4095 of 65535")
    assert second["dropped"] == "encoding"


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def bag(tmp_path, request):
    return write_bag(tmp_path / "bag", MESSAGES, request.param)


# The sample bag with the default model


@pytest.fixture(scope="module")
def sample_run():
    result = perception("replay", SAMPLE_BAG)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_the_sample_bag_gives_the_golden_results():
    result = perception("replay", SAMPLE_BAG, "--golden", GOLDEN)
    assert result.returncode == 0, result.stdout
    assert result.stdout == f"108 frames as in {GOLDEN}\n"
    assert result.stderr == ""


def test_a_second_run_gives_the_same_bytes(sample_run):
    assert perception("replay", SAMPLE_BAG, "--threads", 1).stdout == sample_run
    assert len(sample_run.splitlines()) == 108


def test_every_photo_is_recognised(sample_run):
    records = [json.loads(line) for line in sample_run.splitlines()]
    for photo in json.loads((SAMPLE_BAG / "expected.json").read_bytes()):
        first, last = photo["first_stamp_ns"], photo["last_stamp_ns"]
        shown = [record for record in records if first <= record["stamp_ns"] <= last]
        right = [r for r in shown if r["results"][0]["label"] in photo["accepted"]]
        assert len(shown) >= 25
        assert len(right) / len(shown) > 0.9, photo["photo"]


def test_updating_the_golden_file_writes_what_is_committed(tmp_path):
    file = tmp_path / "golden.jsonl"
    result = perception("replay", SAMPLE_BAG, "--golden", file, "--update-golden")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{file}: 108 frames written\n"
    assert list(compare(read(GOLDEN), read(file), Tolerance())) == []
    assert [list(record) for record in read(file)] == [list(record) for record in read(GOLDEN)]


# What is printed


def test_one_line_per_frame_in_the_order_of_time(replay, bag):
    code, out, err = replay(bag, "--top-k", 1)
    assert (code, err) == (0, "")
    broken = "no JPEG, PNG, WebP or TIFF: it begins with b'broken'"
    records = [json.loads(line) for line in out.splitlines()]
    unknown = records.pop(3)
    assert records == [
        {
            "topic": "/raw",
            "time_ns": START_NS,
            "stamp_ns": START_NS - 5,
            "frame_id": "camera",
            "results": [{"class_id": "0", "label": "red", "score": 0.999988}],
        },
        {
            "topic": "/jpeg",
            "time_ns": START_NS + 10,
            "stamp_ns": START_NS,
            "frame_id": "camera",
            "results": [{"class_id": "1", "label": "green", "score": 0.999987}],
        },
        {"topic": "/jpeg", "time_ns": START_NS + 30, "dropped": "codec", "why": broken},
        {
            "topic": "/raw",
            "time_ns": START_NS + 50,
            "stamp_ns": START_NS,
            "frame_id": "camera",
            "results": [{"class_id": "2", "label": "blue", "score": 0.999988}],
        },
    ]
    assert (unknown["dropped"], unknown["time_ns"]) == ("encoding", START_NS + 40)
    assert "'32FC1' is not supported" in unknown["why"]


def test_only_the_topics_asked_for_are_replayed(replay, bag):
    def topics(*arguments):
        _, out, _ = replay(bag, *arguments)
        return [json.loads(line)["topic"] for line in out.splitlines()]

    assert topics("--topic", "/jpeg") == ["/jpeg", "/jpeg"]
    assert topics("--topic", "/jpeg", "--topic", "/raw") == topics()
    assert len(topics()) == 5


def test_a_data_file_is_replayed_like_its_folder(replay, bag):
    (file,) = [file for file in bag.iterdir() if file.suffix in {".mcap", ".db3"}]
    assert replay(file) == replay(bag)


# What is compared


@pytest.fixture
def golden(replay, bag, tmp_path):
    file = tmp_path / "golden.jsonl"
    assert replay(bag, "--golden", file, "--update-golden") == (
        0,
        f"{file}: 5 frames written\n",
        "",
    )
    return file


def test_results_that_did_not_change_pass(replay, bag, golden):
    before = golden.read_bytes()
    assert replay(bag, "--golden", golden) == (0, f"5 frames as in {golden}\n", "")
    assert golden.read_bytes() == before


def change_score(records):
    records[0]["results"][0]["score"] -= 0.03


def change_label(records):
    records[0]["results"][0]["label"] = "crimson"


def change_class(records):
    records[0]["results"][0]["class_id"] = "7"


def change_stamp(records):
    records[0]["stamp_ns"] += 1


@pytest.mark.parametrize("change", [change_score, change_label, change_class, change_stamp])
def test_a_changed_frame_fails_and_is_shown(replay, bag, golden, change):
    records = read(golden)
    change(records)
    write(golden, records)
    code, out, err = replay(bag, "--golden", golden)
    first, last = out.splitlines()
    assert (code, err) == (1, "")
    assert first.startswith("frame 1: expected /raw at ")
    assert "found /raw at 1699999999999999995: red 1.0000" in first
    assert last == f"1 of 5 frames differ from {golden}"


def test_missing_and_additional_frames_fail(replay, bag, golden):
    records = read(golden)
    write(golden, records[:-1])
    code, out, _ = replay(bag, "--golden", golden)
    assert code == 1
    assert "frame 5: not in the golden file: /raw" in out
    write(golden, [*records, records[-1]])
    code, out, _ = replay(bag, "--golden", golden)
    assert code == 1
    assert "frame 6: missing, the golden file has /raw" in out


def test_another_model_fails(replay, bag, golden, tmp_path):
    other = make_bundle(tmp_path / "other", color_network(gain=1.0))
    code, out, _ = replay(bag, "--golden", golden, model=other)
    assert code == 1
    assert out.endswith(f"3 of 5 frames differ from {golden}\n")


def test_the_tolerance_decides(replay, bag, golden):
    records = read(golden)
    records[0]["results"][0]["score"] -= 0.03
    write(golden, records)
    assert replay(bag, "--golden", golden, "--tolerance", 0.04)[0] == 0
    assert replay(bag, "--golden", golden, "--tolerance", 0.02)[0] == 1


def test_a_long_list_of_differences_is_cut(replay, tmp_path):
    image = image_message(solid(RED))
    many = write_bag(tmp_path / "many", [("/raw", RAW, START_NS + n, image) for n in range(30)])
    other = write(tmp_path / "other.jsonl", [{"topic": "/other"}])
    code, out, _ = replay(many, "--golden", other)
    assert code == 1
    assert len(out.splitlines()) == 21
    assert out.endswith("30 of 30 frames differ from " + str(other) + "\n")


# Nothing that could show anything


def test_a_chosen_topic_without_images_fails(replay, tmp_path, golden):
    """Twelve images of another topic do not make up for it."""
    with Writer(tmp_path / "half", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in ("/empty", "/raw"):
            connection = writer.add_connection(topic, RAW, typestore=TYPES)
        writer.write(connection, START_NS, MESSAGES[0][3])
    before = golden.read_bytes()
    for more in ((), ("--golden", golden), ("--golden", golden, "--update-golden")):
        for topics in (["/empty"], ["/raw", "/empty"]):
            chosen = [word for topic in topics for word in ("--topic", topic)]
            code, out, err = replay(tmp_path / "half", *chosen, *more)
            assert (code, out) == (1, "")
            assert err == f"perception: {tmp_path / 'half'}: it holds no image of /empty\n"
    assert golden.read_bytes() == before
    assert replay(tmp_path / "half")[0] == 0, "without --topic one that is empty is none"


def test_a_run_in_which_every_image_is_dropped_fails_with_the_reasons(replay, tmp_path):
    dropped = [row for row in MESSAGES if row[2] in {START_NS + 30, START_NS + 40}]
    again = (*dropped[1][:2], START_NS + 60, dropped[1][3])
    folder = write_bag(tmp_path / "bag", [*dropped, again])
    golden = tmp_path / "golden.jsonl"
    for more in ((), ("--golden", golden, "--update-golden"), ("--out", tmp_path / "out")):
        code, out, err = replay(folder, *more)
        assert code == 1
        assert len(out.splitlines()) == (0 if golden in more else 3)
        begin = f"perception: {folder}: every image was dropped: 2 encoding, 1 codec; the first: "
        assert err.startswith(begin + "no JPEG, PNG")
        assert err.count("\n") == 1
    assert not golden.exists()
    assert not (tmp_path / "out").exists()


def test_a_golden_file_without_frames_is_never_written_nor_taken(replay, bag, tmp_path):
    file = tmp_path / "golden.jsonl"
    with pytest.raises(ConfigError, match="a golden file without frames would always pass"):
        write_golden(file, [])
    assert not file.exists()
    file.touch()
    code, out, err = replay(bag, "--golden", file)
    assert (code, out) == (2, "")
    assert "it has no frames; make it with --update-golden" in err


def test_larger_images_are_taken_where_that_is_asked_for(replay, bag):
    code, _, err = replay(bag, "--max-image-pixels", 100)
    assert code == 1
    assert ": 3 too_large, 1 codec, 1 encoding; " in err
    assert replay(bag, "--max-image-pixels", 48 * 64)[0] == 0
    code, _, err = replay(bag, "--max-image-pixels", 0)
    assert (code, err.count("\n")) == (2, 1)
    assert "max_image_pixels must be" in err


def test_a_bag_that_was_cut_off_is_replayed_up_to_there_and_said(replay, tmp_path):
    (file,) = write_bag(tmp_path / "bag", MESSAGES).glob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    code, out, err = replay(file.parent)
    assert code == 0
    count = len(out.splitlines())
    assert 0 < count <= 5
    assert err.startswith(f"{file.parent}: {file.name} was cut off or not closed: ")
    assert err.endswith(f", which is 1700000000.000 s; images: {count}\n")


def test_a_bag_of_ros_1_is_replayed_and_its_images_become_those_of_ros_2(replay, tmp_path):
    rows = [
        ("/raw", RAW, START_NS, ros1_image(solid(RED))),
        ("/jpeg", JPEG, START_NS + 10, ros1_compressed(encode(solid(GREEN)))),
    ]
    file = write_ros1(tmp_path / "a.bag", rows)
    code, out, err = replay(file, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert [json.loads(line)["results"][0]["label"] for line in out.splitlines()] == [
        "red",
        "green",
    ]
    assert replay(tmp_path / "out") == (code, out, err)


# Wrong input


def damage_metadata(folder):
    (folder / "metadata.yaml").write_text("a: [")


def damage_data(folder):
    (file,) = [file for file in folder.iterdir() if file.suffix in {".mcap", ".db3"}]
    file.write_bytes(file.read_bytes()[:200])


def lose_data(folder):
    (file,) = [file for file in folder.iterdir() if file.suffix in {".mcap", ".db3"}]
    file.unlink()


@pytest.mark.parametrize("damage", [shutil.rmtree, damage_metadata, damage_data, lose_data])
def test_a_bag_that_cannot_be_read_is_one_line(replay, bag, damage):
    damage(bag)
    code, out, err = replay(bag)
    assert (code, out) == (2, "")
    assert err.startswith(f"perception: {bag}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("topic", ["/nowhere", "/talk"])
def test_a_topic_that_is_not_there_is_one_line(replay, bag, topic):
    code, out, err = replay(bag, "--topic", topic)
    assert (code, out) == (2, "")
    assert err == f"perception: {bag}: no such topic: {topic}; choose from: /jpeg, /raw\n"


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"null",
        b"[" * 100_000,
        b'{"results": 3}',
        b'{"results": [3]}',
        b'{"results": [{}]}',
        b'{"results": [{"class_id": 1, "label": "a", "score": 0.5}]}',
        b'{"results": [{"class_id": "1", "label": "a", "score": "high"}]}',
        b'{"topic": "/raw"}\n\n',
    ],
)
def test_what_is_no_golden_file_is_one_line(replay, bag, tmp_path, content):
    file = tmp_path / "golden.jsonl"
    file.write_bytes(content)
    code, out, err = replay(bag, "--golden", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"perception: {file}: no golden file: ")
    assert err.count("\n") == 1


def test_other_wrong_input_is_one_line(replay, bag, tmp_path):
    (tmp_path / "taken").mkdir()
    for arguments, words in [
        ((bag, "--update-golden"), "--update-golden writes the file that --golden names"),
        ((bag, "--golden", tmp_path / "none.jsonl"), "make it with --update-golden"),
        ((bag, "--golden", tmp_path / "taken", "--update-golden"), "cannot be written"),
        ((bag, "--golden", tmp_path / "no/where", "--update-golden"), "cannot be written"),
        ((bag, "--threshold", "2"), "parameter threshold must be"),
        ((bag, "--tolerance", "colour=1"), "--tolerance: no field 'colour'; choose from: score"),
        ((bag, "--report", tmp_path / "a.html"), "give --golden FILE"),
        ((bag, "--junit", tmp_path / "a.xml"), "give --golden FILE"),
        ((bag, "--rate", 2), "--rate sets the pace of --live; give both"),
        ((bag, "--live", "--rate", "nan"), "--rate: 'nan' is not a finite number"),
        ((bag, "--out", tmp_path / "no/where"), "the folder"),
        ((bag, "--out", tmp_path / "taken"), "exists already"),
    ]:
        code, out, err = replay(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("perception: ")
        assert words in err
        assert err.count("\n") == 1
    code, _, err = replay(bag, model=tmp_path / "taken")
    assert code == 2
    assert "bundle.json: cannot be read" in err
    assert not list(tmp_path.glob(".*"))
