# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.maker_builders import ONES, UNIT, ZEROS, problem, read

ULTRALYTICS = {
    "author": "Ultralytics",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "task": "classify",
    "stride": "1",
    "imgsz": "[64, 64]",
    "names": "{0: 'red', 1: 'green'}",
}


def test_ultralytics_crops_a_square_and_divides_by_255():
    assert read(metadata=ULTRALYTICS) == {
        "color": "RGB",
        "mean": ZEROS,
        "std": ONES,
        "scale": UNIT,
        "interpolation": "bilinear",
        "size": (64, 64),
        "resize": "shorter-side",
        "shorter_side": 64,
        "license": "AGPL-3.0-only",
    }


def test_ultralytics_stretches_to_what_is_not_square():
    known = read(metadata=ULTRALYTICS | {"imgsz": "[64, 96]"})
    assert (known["size"], known["resize"]) == ((64, 96), "stretch")
    assert "shorter_side" not in known


def test_ultralytics_in_torchscript_has_its_names_in_json():
    config = {**ULTRALYTICS, "imgsz": [32, 32], "names": {"1": "green", "0": "red"}, "stride": 1}
    known = read({"extra/config.txt": config})
    assert known["labels"] == ("red", "green")
    assert known["shorter_side"] == 32


def test_a_detector_of_ultralytics_is_refused_by_its_task():
    assert "task 'detect'" in problem(metadata=ULTRALYTICS | {"task": "detect"})


def test_yolov5_says_nothing_of_its_images():
    assert read(metadata={"stride": "32", "names": "{0: 'red'}"}) == {}


@pytest.mark.parametrize("imgsz", ["[64]", "x", "[0, 64]", "[[1]]", "[1e99, 4]", "[" * 5000])
def test_a_size_of_ultralytics_without_meaning_is_named(imgsz):
    assert "imgsz" in problem(metadata=ULTRALYTICS | {"imgsz": imgsz})
