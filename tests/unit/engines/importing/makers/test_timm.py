# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.engines.importing.settings import Wishes
from tests.maker_builders import MEAN, STD, UNIT, problem, read


def timm(**more):
    cfg = {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "mean": MEAN,
        "std": STD,
        "num_classes": 2,
        **more,
    }
    return {"config.json": {"architecture": "resnet18", "num_classes": 2, "pretrained_cfg": cfg}}


def test_timm_resizes_by_its_crop_pct():
    assert read(timm()) == {
        "color": "RGB",
        "scale": UNIT,
        "size": (224, 224),
        "resize": "shorter-side",
        "shorter_side": 235,  # floor(224 / 0.95)
        "mean": tuple(MEAN),
        "std": tuple(STD),
        "interpolation": "bicubic",
    }


def test_timm_without_a_crop_pct_means_seven_eighths():
    files = timm()
    del files["config.json"]["pretrained_cfg"]["crop_pct"]
    assert read(files)["shorter_side"] == 256


@pytest.mark.parametrize(("crop_pct", "side"), [(1.0, None), (0.9, 248)])
def test_timm_squashes(crop_pct, side):
    known = read(timm(crop_mode="squash", crop_pct=crop_pct))
    assert known["resize"] == ("stretch-crop" if side else "stretch")
    assert known.get("shorter_side") == side


def test_timm_puts_a_border_of_the_mean_around():
    known = read(timm(crop_mode="border", crop_pct=1.0))
    assert (known["resize"], known["fill"]) == ("letterbox", (124, 116, 104))


def test_timm_for_tests_goes_with_the_size_of_the_graph():
    more = {"test_input_size": [3, 288, 288], "test_crop_pct": 1.0}
    assert read(timm(**more), size=(288, 288))["shorter_side"] == 288
    assert read(timm(**more), size=(224, 224))["shorter_side"] == 235
    assert read(timm(**more))["size"] == (224, 224)


def test_timm_has_names_and_their_words():
    files = timm()
    files["config.json"] |= {
        "label_names": ["n02119789", "n02100735"],
        "label_descriptions": {"n02119789": "kit fox", "n02100735": "English setter"},
    }
    assert read(files)["labels"] == ("kit fox", "English setter")
    files["config.json"]["label_names"] = {"0": "red", "1": "green"}
    assert read(files)["labels"] == ("red", "green")


def test_timm_before_there_was_pretrained_cfg():
    flat = {"architecture": "x", "input_size": [3, 32, 32], "mean": MEAN, "std": STD}
    assert read({"config.json": flat})["shorter_side"] == 36


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"interpolation": "lanczos"}, "lanczos resampling"),
        ({"crop_mode": "border"}, "crop_mode border with crop_pct 0.95"),
        ({"input_size": [3, 224, 320]}, "crop_mode center"),
        ({"crop_pct": 7}, "crop_pct is 7, not above 0"),
        ({"mean": [1, 2]}, "mean has 2 values"),
        ({"std": ["a", "b", "c"]}, "std is 'a', not a number"),
        ({"input_size": "large"}, "input_size is not"),
    ],
)
def test_what_timm_asks_for_that_is_not_ours_is_named(more, words):
    assert words in problem(timm(**more))


def test_a_network_of_timm_without_a_head_is_refused():
    files = timm()
    files["config.json"]["num_classes"] = 0
    assert "has no head" in problem(files)


def test_the_user_goes_before_what_is_not_ours():
    known = read(timm(interpolation="lanczos"), wishes=Wishes(interpolation="bicubic"))
    assert "interpolation" not in known
    assert known["shorter_side"] == 235
    assert "interpolation" not in read(timm(interpolation="box"), wishes=Wishes(preset="clip"))
