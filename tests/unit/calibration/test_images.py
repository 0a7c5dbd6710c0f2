# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.calibration.images import open_images, read_label_sets, read_labels
from perception_node.errors import BagError, CalibrationError, ConfigError
from perception_node.model.bundle import load_bundle
from perception_node.vision.decode import Decoder
from perception_node.vision.frame import Frame
from perception_node.vision.preprocess import FramePreprocessor
from perception_node.vision.samples import SampleScaler
from tests.builders import (
    RED,
    START_NS,
    compressed_message,
    encode,
    image_message,
    smooth,
    solid,
    write_bag,
)
from tests.calibration_builders import SIDE, small_bundle, write_pictures

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(small_bundle(tmp_path / "bundle"))


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "images", 4)
    write_pictures(tmp_path / "images/more", 2, first=4)
    (tmp_path / "images/readme.txt").write_text("no image")
    return tmp_path / "images"


@pytest.fixture
def bag(tmp_path):
    messages = [
        ("/raw", RAW, START_NS + 1, image_message(solid(RED))),
        ("/jpeg", COMPRESSED, START_NS + 2, compressed_message(encode(smooth()))),
        ("/raw", RAW, START_NS + 3, image_message(smooth())),
        ("/raw", RAW, START_NS + 4, b"broken"),
    ]
    return write_bag(tmp_path / "bag", messages)


@pytest.mark.parametrize("text", ["0,4095", "auto"])
def test_deep_images_have_the_range_of_the_node(bundle, tmp_path, text):
    picture = np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None].repeat(3, axis=2)
    deep = (picture.astype("<u2") * 16 + 8).view(np.uint8)
    message = image_message(deep, "rgb16", width=256)
    bags = [
        write_bag(tmp_path / name, [("/a", RAW, START_NS + n, one) for n in range(2)])
        for name, one in (("deep", message), ("bytes", image_message(picture)))
    ]
    scaler = SampleScaler(text)
    images = open_images(bundle, bag=bags[0], topic="/a", scaler=scaler)
    (expected, _) = (image.values for image in open_images(bundle, bag=bags[1], topic="/a"))
    for _ in range(2):
        for image in images:
            assert np.abs(image.values - expected).max() < np.ptp(expected) / 40


def test_a_folder_is_read_with_those_below_it_in_order_of_the_names(bundle, folder):
    images = open_images(bundle, images=folder)
    names = ["000.jpg", "001.jpg", "002.jpg", "003.jpg", "more/004.jpg", "more/005.jpg"]
    assert [image.name for image in images] == names == list(images.names)
    assert len(images) == 6


def test_values_are_those_of_the_nodes_preprocessing(bundle, folder):
    expected = np.zeros((1, 3, SIDE, SIDE), np.float32)
    pixels = Decoder(10**6, bundle.manifest.smallest_side).decode(
        (folder / "001.jpg").read_bytes()
    )
    FramePreprocessor(bundle.manifest.preprocessing, expected)(Frame.from_bgr(pixels))
    found = list(open_images(bundle, images=folder))  # each with an array of its own
    np.testing.assert_array_equal(found[1].values, expected)
    np.testing.assert_array_equal(found[1].to_bgr(), pixels)


def test_a_list_keeps_its_order_and_names_files_relative_to_itself(bundle, folder):
    listed = folder.parent / "list.txt"
    listed.write_text(f"images/more/004.jpg\n\n{folder / '001.jpg'}\nimages/more/004.jpg\n")
    images = open_images(bundle, images=listed)
    assert [image.name for image in images] == ["more/004.jpg", "001.jpg"]


def test_samples_are_evenly_spaced(bundle, folder):
    images = open_images(bundle, images=folder)
    assert images.sample(3).names == ("000.jpg", "002.jpg", "more/004.jpg")
    assert images.sample(100).names == images.names
    with pytest.raises(ConfigError, match="0 samples"):
        images.sample(0)


def test_what_cannot_be_decoded_is_skipped_and_counted(bundle, folder):
    (folder / "0000.jpg").write_text("no image")
    (folder / "001.jpg").write_bytes((folder / "001.jpg").read_bytes()[:400])
    (folder / "002.jpg").unlink()
    (folder / "002.jpg").symlink_to("nowhere")
    images = open_images(bundle, images=folder)
    assert len(list(images)) == len(images.used) == 4
    assert set(images.skipped) == {"0000.jpg", "001.jpg", "002.jpg"}
    assert "no JPEG, PNG, WebP or TIFF" in images.why_skipped()
    assert "No such file" in images.skipped["002.jpg"]


def test_the_digest_is_of_names_contents_and_order(bundle, folder, tmp_path):
    def digest(path):
        images = open_images(bundle, images=path)
        list(images)
        return images.digest()

    first = digest(folder)
    folder.rename(tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == first
    (tmp_path / "elsewhere/001.jpg").rename(tmp_path / "elsewhere/001a.jpg")
    assert digest(tmp_path / "elsewhere") != first


def test_copies_of_an_image_are_one(bundle, folder):
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes((folder / "000.jpg").read_bytes())
    images = open_images(bundle, images=folder)
    list(images)
    assert (len(images.used), images.distinct) == (8, 6)


def test_an_image_that_changes_between_two_readings_is_an_error(bundle, folder):
    images = open_images(bundle, images=folder)
    list(images)
    (folder / "003.jpg").write_bytes(encode(solid(RED)))
    with pytest.raises(CalibrationError, match=r"003\.jpg: changed while"):
        list(images)


def test_a_topic_of_a_bag_is_read_like_a_folder(bundle, bag):
    images = open_images(bundle, bag=bag, topic="/raw")
    found = list(images)
    assert [image.name for image in found] == [
        f"/raw#0@{START_NS + 1}",
        f"/raw#1@{START_NS + 3}",
    ]
    assert found[0].to_bgr()[0, 0].tolist() == [0, 0, 255]
    assert list(images.skipped) == [f"/raw#2@{START_NS + 4}"]
    assert images.source.kind == "bag, topic /raw"
    assert len(list(open_images(bundle, bag=bag, topic="/jpeg"))) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "--images FOLDER, or --bag"),
        ({"images": True, "bag": True}, "--images FOLDER, or --bag"),
        ({"images": True, "topic": "/raw"}, "use it with --bag"),
        ({"bag": True}, "--bag needs --topic"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(bundle, folder, bag, arguments, problem):
    paths = {"images": folder, "bag": bag}
    arguments = {key: paths.get(key, value) for key, value in arguments.items()}
    with pytest.raises(ConfigError, match=problem):
        open_images(bundle, **arguments)


def test_a_topic_that_the_bag_lacks_is_an_error(bundle, bag):
    with pytest.raises(BagError, match="no such topic"):
        open_images(bundle, bag=bag, topic="/other")


def test_a_folder_or_a_list_without_images_is_an_error(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        CalibrationError, match=r"holds no \.jpeg, \.jpg, \.png, .* file; give one"
    ):
        open_images(bundle, images=tmp_path / "empty")
    (tmp_path / "list").write_text("\n")
    with pytest.raises(CalibrationError, match="the list is empty"):
        open_images(bundle, images=tmp_path / "list")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        open_images(bundle, images=tmp_path / "nothing")
    (tmp_path / "photo.jpg").write_bytes(encode(solid(RED)))
    with pytest.raises(ConfigError, match="not a text file; give a folder"):
        open_images(bundle, images=tmp_path / "photo.jpg")


def labels(tmp_path, text, names=("a.jpg", "more/b.jpg")):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, names, 3)


def test_labels_are_found_by_the_whole_name_or_its_last_part(tmp_path):
    found = labels(tmp_path, "file,class_index\na.jpg,1\nb.jpg,2\nother.jpg,0\n")
    assert found == {"a.jpg": 1, "more/b.jpg": 2}


@pytest.mark.parametrize(
    ("text", "error", "problem"),
    [
        ("a.jpg,1\n", ConfigError, "first line must be file,class_index"),
        ("file,class_index\na.jpg,cat\n", ConfigError, "line 2 is not a file and a class"),
        ("file,class_index\na.jpg\n", ConfigError, "line 2 is not a file and a class"),
        ("file,class_index\na.jpg,3\n", CalibrationError, "classes 0 to 2; are these"),
        ("file,class_index\na.jpg,-1\n", CalibrationError, "classes 0 to 2; are these"),
        ("file,class_index\na.jpg,1\n", CalibrationError, r"1 of 2 .* such as more/b\.jpg; add"),
        ("file,class_index\nx.jpg,1\n", CalibrationError, r"none of the images, such as a\.jpg"),
    ],
)
def test_labels_that_do_not_match_are_refused(tmp_path, text, error, problem):
    with pytest.raises(error, match=problem):
        labels(tmp_path, text)


def label_sets(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(f"file,class_index\n{text}")
    return read_label_sets(path, ("a.jpg", "more/b.jpg"), 3)


def test_an_image_may_have_several_labels_or_none(tmp_path):
    found = label_sets(tmp_path, "a.jpg,2\nb.jpg,\na.jpg,0\na.jpg,2\n")
    assert found == {"a.jpg": {0, 2}, "more/b.jpg": set()}


@pytest.mark.parametrize(
    ("text", "error", "problem"),
    [
        ("a.jpg,0 2\nb.jpg,1\n", ConfigError, "line 2 is not a file and a class"),
        ("a.jpg\nb.jpg,1\n", ConfigError, "line 2 is not a file and a class"),
        ("a.jpg,-1\nb.jpg,1\n", CalibrationError, "classes 0 to 2; are these"),
        ("a.jpg,1\n", CalibrationError, r"1 of 2 .* such as more/b\.jpg; add"),
    ],
)
def test_label_sets_that_do_not_match_are_refused(tmp_path, text, error, problem):
    with pytest.raises(error, match=problem):
        label_sets(tmp_path, text)
