# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from tests.maker_builders import MEAN, STD, UNIT, problem, read


def paddle(*steps, **post):
    return {"inference.yml": yaml.safe_dump({"PreProcess": {"transform_ops": steps}, **post})}


CROP = ({"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}})
NORMALISE = {"NormalizeImage": {"mean": MEAN, "std": STD, "scale": "1.0/255.0", "order": ""}}


def test_paddle_says_every_step():
    post = {"PostProcess": {"Topk": {"topk": 5, "label_list": ["cat", "dog"]}}}
    assert read(paddle(*CROP, NORMALISE, {"ToCHWImage": None}, **post)) == {
        "color": "RGB",
        "size": (224, 224),
        "resize": "shorter-side",
        "shorter_side": 256,
        "interpolation": "bilinear-aliased",
        "scale": UNIT,
        "mean": tuple(MEAN),
        "std": tuple(STD),
        "labels": ("cat", "dog"),
    }


@pytest.mark.parametrize("scale", ["1./255.", 0.00392156862745098, "0.00392156862745098"])
def test_paddle_writes_its_scale_in_several_ways(scale):
    step = {"NormalizeImage": {"mean": MEAN, "std": STD, "scale": scale}}
    assert read(paddle(*CROP, step))["scale"] == pytest.approx(1 / 255)


def test_paddle_stretches_to_width_and_height():
    known = read(paddle({"ResizeImage": {"size": [80, 160], "interpolation": "bicubic"}}))
    assert (known["size"], known["resize"]) == ((160, 80), "stretch")
    assert known["interpolation"] == "bicubic-aliased"
    pillow = {"size": 80, "interpolation": "bicubic", "backend": "pil"}
    assert read(paddle({"ResizeImage": pillow}))["interpolation"] == "bicubic"


def test_paddle_may_leave_its_names_in_a_file_beside():
    post = {"PostProcess": {"Topk": {"class_id_map_file": "../utils/labels.txt"}}}
    files = paddle(*CROP, **post) | {"labels.txt": "0 cat\n1 dog\n"}
    assert read(files)["labels"] == ("cat", "dog")


def test_rapidocr_writes_its_names_into_the_model():
    assert read(metadata={"character": "0\n180"}) == {"labels": ("0", "180")}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (paddle(*CROP, {"PadStride": {"stride": 32}}), "PadStride"),
        (paddle({"ResizeImage": {"resize_short": 256}}), "resize_short without CropImage"),
        (paddle(*CROP, {"NormalizeImage": {"scale": "1/0"}}), "scale is '1/0'"),
        (paddle("ResizeImage"), "a step of transform_ops"),
        ({"inference.yml": "a: ["}, "inference.yml is not YAML"),
        ({"inference.yml": "PreProcess: {}"}, "no transform_ops"),
    ],
)
def test_what_paddle_asks_for_that_is_not_ours_is_named(files, words):
    assert words in problem(files)
