# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.maker_builders import MEAN, ONES, STD, UNIT, ZEROS, numbers, problem, read


def hugging_face(name, **settings):
    return {"preprocessor_config.json": {"image_processor_type": name, **settings}}


STATISTICS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
BOTH = {"height": 224, "width": 224}
# An image processor's file, and what it means: size, resize, shorter side, interpolation.
GEOMETRIES = {
    "ViT": (
        hugging_face("ViTImageProcessor", size=BOTH, resample=2, **STATISTICS),
        ((224, 224), "stretch", None, "bilinear"),
    ),
    "ViT, old": (
        {
            "preprocessor_config.json": {
                "feature_extractor_type": "ViTFeatureExtractor",
                "size": 384,
            }
        },
        ((384, 384), "stretch", None, "bilinear"),
    ),
    "ViT, fast, not square": (
        hugging_face("ViTImageProcessorFast", size={"height": 96, "width": 64}),
        ((96, 64), "stretch", None, "bilinear"),
    ),
    "DeiT": (
        hugging_face("DeiTImageProcessor", size=256, crop_size=224, resample=3),
        ((224, 224), "stretch-crop", 256, "bicubic"),
    ),
    "ConvNeXt under 384": (
        hugging_face("ConvNextImageProcessor", size={"shortest_edge": 224}, crop_pct=0.875),
        ((224, 224), "shorter-side", 256, "bicubic"),
    ),
    "ConvNeXt at 384": (
        hugging_face("ConvNextFeatureExtractor", size=384, crop_pct=0.875),
        ((384, 384), "stretch", None, "bicubic"),
    ),
    "DINOv2": (
        hugging_face("BitImageProcessor", size={"shortest_edge": 256}, crop_size=BOTH),
        ((224, 224), "shorter-side", 256, "bicubic"),
    ),
    "CLIP, old": (
        hugging_face("CLIPFeatureExtractor", size=224, crop_size=224, do_center_crop=True),
        ((224, 224), "shorter-side", 224, "bicubic"),
    ),
    "LeViT": (
        hugging_face("LevitImageProcessor", size={"shortest_edge": 224}, crop_size=BOTH),
        ((224, 224), "shorter-side", 256, "bicubic"),
    ),
    "PoolFormer": (
        hugging_face(
            "PoolFormerImageProcessor", size={"shortest_edge": 224}, crop_pct=0.9, crop_size=BOTH
        ),
        ((224, 224), "shorter-side", 248, "bicubic"),
    ),
    "Perceiver": (
        hugging_face("PerceiverImageProcessor", size=BOTH, crop_size=256),
        ((224, 224), "shorter-side", 256, "bicubic"),
    ),
    "EfficientNet": (
        hugging_face("EfficientNetImageProcessor", size={"height": 260, "width": 260}, resample=3),
        ((260, 260), "stretch", None, "bicubic"),
    ),
    "MobileNetV2": (
        hugging_face("MobileNetV2ImageProcessor", size={"shortest_edge": 256}, crop_size=BOTH),
        ((224, 224), "shorter-side", 256, "bilinear"),
    ),
    "in a processor": (
        {"processor_config.json": {"image_processor": {"size": BOTH, "resample": 3}}}
        | {"config.json": {"model_type": "siglip"}},
        ((224, 224), "stretch", None, "bicubic"),
    ),
    "without a name": (
        {"preprocessor_config.json": {"size": BOTH}, "config.json": {"model_type": "swin"}},
        ((224, 224), "stretch", None, "bilinear"),
    ),
}


@pytest.mark.parametrize(("files", "expected"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_hugging_face_brings_images_to_size(files, expected):
    known = read(files)
    keys = ("size", "resize", "shorter_side", "interpolation")
    assert tuple(map(known.get, keys)) == expected


def test_hugging_face_normalises():
    vit = hugging_face("ViTImageProcessor", size=BOTH, rescale_factor=1 / 255, **STATISTICS)
    assert numbers(vit) == ["RGB", UNIT, (0.5,) * 3, (0.5,) * 3]


def test_hugging_face_without_its_statistics_leaves_them_to_be_asked_for():
    assert numbers(hugging_face("ViTImageProcessor", size=BOTH)) == ["RGB", UNIT, None, None]


def test_hugging_face_may_leave_pixels_as_they_are():
    plain = hugging_face("ViTImageProcessor", size=BOTH, do_rescale=False, do_normalize=False)
    assert numbers(plain) == ["RGB", 1.0, ZEROS, ONES]


def test_mobilevit_flips_the_channels_and_does_not_normalise():
    files = hugging_face(
        "MobileViTImageProcessor",
        size={"shortest_edge": 288},
        crop_size={"height": 256, "width": 256},
        do_flip_channel_order=True,
    )
    assert numbers(files) == ["BGR", UNIT, ZEROS, ONES]
    assert read(files)["shorter_side"] == 288


def test_efficientnet_divides_by_its_std_another_time():
    size = {"height": 224, "width": 224}
    files = hugging_face("EfficientNetImageProcessor", size=size, image_mean=MEAN, image_std=STD)
    assert numbers(files)[3] == pytest.approx([value**2 for value in STD])
    offset = files["preprocessor_config.json"] | {"rescale_offset": True, "include_top": False}
    known = read({"preprocessor_config.json": offset | {"rescale_factor": 1 / 127.5}})
    assert known["scale"] == pytest.approx(1 / 127.5)
    assert known["mean"] == pytest.approx([value + 1 for value in MEAN])
    assert known["std"] == pytest.approx(STD)


def test_hugging_face_has_names_and_kinds():
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    config["id2label"] = {"1": "dog, hound", "0": "cat"}
    assert read({"config.json": config}) == {"labels": ("cat", "dog, hound")}
    config["problem_type"] = "multi_label_classification"
    assert read({"config.json": config})["output"] == "sigmoid-logits"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"config.json": {"model_type": "d", "architectures": ["DetrForObjectDetection"]}},
            "Detr",
        ),
        ({"config.json": {"model_type": "d", "id2label": {"0": "a", "2": "b"}}}, "without 1"),
        ({"preprocessor_config.json": "{"}, "preprocessor_config.json is not JSON"),
        (hugging_face("DonutImageProcessor", size=BOTH), "DonutImageProcessor"),
        (hugging_face("ViTImageProcessor", size=BOTH, resample=1), "lanczos resampling"),
        (hugging_face("ViTImageProcessor", size=BOTH, do_pad=True), "do_pad"),
        (hugging_face("ViTImageProcessor", do_resize=False), "do_resize false"),
        (hugging_face("ViTImageProcessor", size={"longest_edge": 5}), "neither height and width"),
        (hugging_face("ViTImageProcessor", size={"height": 0, "width": 5}), "not 1 to 4096"),
        (hugging_face("CLIPImageProcessor", size=224, do_center_crop=False), "without a crop"),
        (hugging_face("CLIPImageProcessor", size=200, crop_size=224), "larger than the image"),
        (hugging_face("ViTImageProcessor", size=BOTH, image_mean="x"), "image_mean is 'x'"),
        (
            hugging_face("ViTImageProcessor", size=BOTH, image_std=[1, None, 1]),
            "image_std is None",
        ),
    ],
)
def test_what_hugging_face_asks_for_that_is_not_ours_is_named(files, words):
    assert words in problem(files)
