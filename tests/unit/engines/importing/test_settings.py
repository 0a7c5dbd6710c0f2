# SPDX-License-Identifier: Apache-2.0
"""What is said, by whom, and what is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perception_node.engines.importing.presets import PRESETS
from perception_node.engines.importing.settings import Choice, Wishes, settle_graph, settle_script
from perception_node.errors import ConversionError

PATH = Path("model.onnx")
GRAPH = {"height": 224, "width": 224, "layout": "NCHW", "element": "float32"}
OPEN = {**GRAPH, "height": None, "width": None}
FILE = "preprocessor_config.json"
MAKER = {
    name: Choice(value, FILE)
    for name, value in {
        "color": "RGB",
        "resize": "shorter-side",
        "shorter_side": 256,
        "interpolation": "bicubic",
        "scale": 1 / 255,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }.items()
}
SAID = Wishes(color="RGB", resize="stretch", scale=1.0, mean=(1, 2, 3), std=(4, 5, 6))
REFERENCE = {"labels": ["a"], "traced": False, "size": None}


def test_the_maker_answers_what_the_graph_leaves_open():
    settings = settle_graph(PATH, Wishes(), GRAPH, MAKER)
    used = settings.preprocessing
    assert (used.resize, used.shorter_side, used.interpolation) == ("shorter-side", 256, "bicubic")
    assert {choice.source for choice in settings.choices.values()} == {FILE, "its input"}


def test_the_user_goes_before_a_preset_and_that_before_the_maker():
    settings = settle_graph(PATH, Wishes(preset="imagenet", color="BGR"), GRAPH, MAKER)
    used, choices = settings.preprocessing, settings.choices
    assert (used.color, choices["color"].source) == ("BGR", "given")
    assert (used.mean[0], choices["mean"].source) == (0.485, "preset imagenet")
    assert (used.resize, used.shorter_side) == ("shorter-side", 256)


def test_an_answer_takes_away_what_only_went_with_the_one_before():
    wishes = Wishes(resize="stretch", mean=(127, 127, 127), std=(128, 128, 128))
    used = settle_graph(PATH, wishes, GRAPH, MAKER).preprocessing
    assert (used.resize, used.shorter_side, used.scale) == ("stretch", 0, 1.0)
    padded = {**MAKER, "resize": Choice("letterbox", FILE), "fill": Choice(114, FILE)}
    assert settle_graph(PATH, Wishes(), GRAPH, padded).preprocessing.fill == 114
    assert settle_graph(PATH, Wishes(resize="stretch"), GRAPH, padded).preprocessing.fill == 0


def test_mean_and_std_of_different_pixels_are_not_mixed():
    with pytest.raises(ConversionError, match=r"mean \(given\) and std \(pre.* different pixels"):
        settle_graph(PATH, Wishes(mean=(127, 127, 127)), GRAPH, MAKER)
    used = settle_graph(PATH, Wishes(mean=(0.4, 0.4, 0.4)), GRAPH, MAKER).preprocessing
    assert (used.mean[0], used.std[0], used.scale) == (0.4, 0.5, 1 / 255)


def test_a_maker_that_contradicts_the_graph_is_named():
    known = {**MAKER, "size": Choice((256, 300), FILE)}
    settings = settle_graph(PATH, Wishes(), GRAPH, known)
    assert settings.size == (224, 224)
    assert settings.choices["size"].source == f"its input; {FILE} says 256x300"
    assert settle_graph(PATH, Wishes(), OPEN, {**known, "shorter_side": Choice(300, FILE)})


@pytest.mark.parametrize(
    ("name", "value"), [("interpolation", "lanczos"), ("resize", "border"), ("color", "GRAY")]
)
def test_what_a_maker_does_and_we_do_not_is_refused_with_its_name(name, value):
    known = {**MAKER, name: Choice(value, FILE)}
    with pytest.raises(
        ConversionError, match=rf"{name} '{value}' \({FILE}\) is not ours yet; give"
    ):
        settle_graph(PATH, Wishes(), GRAPH, known)
    ours = {name: getattr(settle_graph(PATH, Wishes(), GRAPH, MAKER).preprocessing, name)}
    side = 256 if name == "resize" else 0
    assert settle_graph(PATH, Wishes(**ours, shorter_side=side), GRAPH, known)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_answers_all_but_the_size(preset):
    settings = settle_graph(PATH, Wishes(preset=preset), GRAPH)
    sources = {name: choice.source for name, choice in settings.choices.items()}
    assert sources.pop("size") == "its input"
    assert set(sources.values()) == {f"preset {preset}"}
    assert sources.keys() == {"color", "resize", "interpolation", "scale", "mean", "std"}


def test_presets_say_what_their_makers_do():
    """The same pixel, as the makers' own code normalises it (R 200, G 100, B 50)."""
    expected = {
        "imagenet": (1.3070, -0.2850, -0.9330),
        "tf": (0.56863, -0.21569, -0.60784),
        "caffe": (50 - 103.939, 100 - 116.779, 200 - 123.68),
        "ultralytics": (0.78431, 0.39216, 0.19608),
        "clip": (1.12742, -0.25132, -0.76922),
    }
    for preset, values in expected.items():
        used = settle_graph(PATH, Wishes(preset=preset), GRAPH).preprocessing
        pixel = {"R": 200, "G": 100, "B": 50}
        found = [
            (pixel[name] * used.scale - mean) / std
            for name, mean, std in zip(used.color, used.mean, used.std, strict=True)
        ]
        assert found == pytest.approx(values, abs=1e-3), preset


@pytest.mark.parametrize(
    ("resize", "part", "mode", "side"),
    [
        ("shorter-side", 0.875, "shorter-side", 256),
        ("shorter-side", 0.95, "shorter-side", 235),
        ("shorter-side", 1.0, "shorter-side", 224),
        ("stretch", 0.875, "stretch-crop", 256),
        ("stretch", 1.0, "stretch", 0),
    ],
)
def test_a_part_to_keep_becomes_pixels(resize, part, mode, side):
    wishes = replace(SAID, resize=resize, crop_pct=part)
    used = settle_graph(PATH, wishes, GRAPH).preprocessing
    assert (used.resize, used.shorter_side) == (mode, side)


def test_a_part_that_only_a_square_has_is_asked_for_with_the_rest():
    oblong = {**GRAPH, "width": 192}
    with pytest.raises(ConversionError, match=r"--preset clip --resize HOW --labels FILE$"):
        settle_graph(
            PATH, Wishes(preset="clip", command="import --preset clip"), oblong, missing=["labels"]
        )


def test_a_border_is_black_unless_somebody_says_otherwise():
    settings = settle_graph(PATH, replace(SAID, resize="letterbox"), GRAPH)
    assert settings.choices["fill"] == Choice(0, "default")
    assert "fill" not in settle_graph(PATH, SAID, GRAPH).choices


REFUSED = {
    "part of an oblong": (
        {"resize": "shorter-side", "crop_pct": 0.9, "size": (224, 192)},
        "--crop-pct is for square inputs; give --resize shorter-side:N",
    ),
    "part of a letterbox": (
        {"resize": "letterbox", "crop_pct": 0.9, "size": (224, 224)},
        "letterbox crops nothing",
    ),
    "small stretch": (
        {"resize": "stretch-crop", "shorter_side": 200, "size": (224, 224)},
        "--resize stretch:N needs at least the input's 224 pixels",
    ),
    "large crop": (
        {"resize": "shorter-side", "shorter_side": 5000, "size": (224, 224)},
        "at most 4096",
    ),
    "fill of nothing": ({"fill": 3, "size": (9, 9)}, "leaves nothing to fill, leave out --fill"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_answers_that_do_not_fit_one_another_are_refused(case):
    wish, words = REFUSED[case]
    with pytest.raises(ConversionError, match=words):
        settle_graph(PATH, replace(SAID, **wish), OPEN)


def test_all_that_is_missing_is_asked_for_with_the_command_that_was_typed():
    command = "perception import 'my model.onnx' -o b --color RGB"
    with pytest.raises(ConversionError) as caught:
        settle_graph(
            PATH, Wishes(color="RGB", command=command), OPEN, missing=["labels"], later=["output"]
        )
    line = str(caught.value)
    assert line.startswith("model.onnx: the model does not say: size, resize, mean, std, output")
    assert "--preset imagenet|tf|caffe|ultralytics|clip answers for a family" in line
    assert settle_graph(PATH, SAID, GRAPH, later=["output"])
    flags = "--size HxW --resize HOW --mean MEAN --std STD --output KIND --labels FILE"
    assert line.endswith(f"; complete and run: {command} {flags}")


def test_a_model_that_takes_pixels_needs_no_mean_whatever_a_file_says():
    settings = settle_graph(PATH, Wishes(), {**GRAPH, "element": "uint8"}, MAKER)
    assert (settings.preprocessing.scale, settings.preprocessing.mean) == (1.0, (0.0, 0.0, 0.0))
    assert settings.choices["mean"].source == "its input, uint8"


def test_a_graph_that_takes_rgba_needs_neither_order_nor_resize():
    shown = {**GRAPH, "layout": "HWCA"}
    assert settle_graph(PATH, Wishes(), shown).preprocessing.color == "RGB"


def test_grey_is_normalised_alike_in_all_channels():
    grey = {**GRAPH, "layout": "NCYHW"}
    settings = settle_graph(PATH, replace(SAID, color=None, mean=(0.5,) * 3, std=(0.2,) * 3), grey)
    assert settings.choices["color"].source == "its input is grey"
    with pytest.raises(
        ConversionError, match="not the same for all colours; give one number, --m"
    ):
        settle_graph(PATH, replace(SAID, mean=(0.4, 0.5, 0.6), std=(0.2,) * 3), grey)


def test_only_a_graph_that_drops_alpha_says_how_a_browser_resizes():
    rgba = {**GRAPH, "layout": "HWCA"}
    assert settle_graph(PATH, Wishes(), rgba).preprocessing.resize == "stretch"
    with pytest.raises(ConversionError, match="not say: color, resize "):
        settle_graph(PATH, Wishes(layout="HWCA"), rgba)


@pytest.mark.parametrize(
    ("script", "wishes", "known"),
    [
        ({"labels": None}, Wishes(), {}),
        ({"traced": True}, Wishes(), {}),
        ({}, Wishes(interpolation="bicubic"), {}),
        ({}, Wishes(), {"interpolation": Choice("bicubic", FILE)}),
    ],
)
def test_only_the_references_own_signature_goes_in_silently(script, wishes, known):
    assert settle_script(PATH, Wishes(), REFERENCE).size == (224, 224)
    with pytest.raises(ConversionError, match="not say: size, color, resize, mean, std"):
        settle_script(PATH, wishes, {**REFERENCE, **script}, known)
