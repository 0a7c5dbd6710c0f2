# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from tests.maker_builders import MEAN, ONES, STD, UNIT, numbers, problem, read


def test_deepstream_scales_after_it_subtracts():
    text = "[property]\nnet-scale-factor=0.0174\noffsets=123.675;116.28;103.53\n"
    text += "model-color-format=1\ninfer-dims=3;224;320\nmaintain-aspect-ratio=0\n"
    assert read({"nvinfer_config.txt": text}) == {
        "color": "BGR",
        "scale": 1.0,
        "mean": (123.675, 116.28, 103.53),
        "std": pytest.approx((1 / 0.0174,) * 3),
        "size": (224, 320),
        "resize": "stretch",
    }


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("torch", ["RGB", UNIT, tuple(MEAN), tuple(STD)]),
        ("tf", ["RGB", 1.0, (127.5,) * 3, (127.5,) * 3]),
        ("caffe", ["BGR", 1.0, (103.939, 116.779, 123.68), ONES]),
    ],
)
def test_tao_names_a_mode_of_keras(mode, expected):
    spec = {"dataset": {"preprocess_mode": mode}}
    spec["model"] = {"input_height": 96, "input_width": 64}
    files = {"experiment.yaml": yaml.safe_dump(spec), "classmap.json": {"dog": 1, "cat": 0}}
    assert numbers(files) == expected
    assert read(files)["size"] == (96, 64)
    assert read(files)["labels"] == ("cat", "dog")


def test_what_deepstream_asks_for_that_is_not_ours_is_named():
    text = "net-scale-factor=1\nmodel-color-format=2\nmaintain-aspect-ratio=1\n"
    said = problem({"nvinfer_config.txt": text})
    assert "model-color-format 2 (nvinfer_config.txt: DeepStream)" in said
    assert "maintain-aspect-ratio with padding at one side" in said
    assert said.endswith("give --color and --resize, if another way comes near enough")
    assert "'x' is not a list" in problem({"nvinfer_config.txt": "offsets=x"})
    assert "not above 0" in problem({"nvinfer_config.txt": "net-scale-factor=0"})
