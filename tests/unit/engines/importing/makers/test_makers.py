# SPDX-License-Identifier: Apache-2.0
"""What each maker writes, as it writes it, becomes our settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_node.engines.importing.makers import FILES, read_makers
from perception_node.engines.importing.makers.evidence import Evidence
from perception_node.engines.importing.makers.label_files import NAMES
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConversionError

MODEL = Path("model.onnx")
UNIT = pytest.approx(1 / 255)
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
ULTRALYTICS = {
    "author": "Ultralytics",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "task": "classify",
    "stride": "1",
    "imgsz": "[64, 64]",
    "names": "{0: 'red', 1: 'green'}",
}


def read(files=None, metadata=None, wishes=None, size=None):
    """Return the values that are known; files are text, or data that becomes JSON."""
    contents = {
        name: (data if isinstance(data, str) else json.dumps(data)).encode()
        for name, data in (files or {}).items()
    }
    evidence = Evidence(contents, metadata or {}, size)
    known = read_makers(MODEL, evidence, wishes or Wishes())
    assert all(choice.source for choice in known.values())
    return {name: choice.value for name, choice in known.items()}


def problem(*arguments, **named):
    with pytest.raises(ConversionError) as caught:
        read(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_is_known_of_a_model_without_words():
    assert read() == {}
    assert read({"config.json": {"server": "x"}}, {"producer": "me"}) == {}


# Ultralytics


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


# timm


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


# Hugging Face


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


def numbers(files):
    known = read(files)
    return [known.get(name) for name in ("color", "scale", "mean", "std")]


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


# PaddleClas and PaddleX


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


# NVIDIA, Azure, others


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


def test_labels_of_deepstream_stand_on_one_line():
    assert read({"labels.txt": "cat;dog;bird"})["labels"] == ("cat", "dog", "bird")


def test_azure_custom_vision_says_it_in_its_file():
    said = {
        "CustomVision.Postprocess.Method": "ClassificationMultiClass",
        "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
        "CustomVision.Preprocess.ResizeMethod": "Stretch",
        "CustomVision.Preprocess.TargetHeight": "300",
        "CustomVision.Preprocess.TargetWidth": "200",
        "Image.BitmapPixelFormat": "Bgr8",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    known = read({"metadata_properties.json": said, "labels.txt": "cat\ndog"})
    assert known == {
        "color": "BGR",
        "scale": 1.0,
        "mean": ZEROS,
        "std": ONES,
        "interpolation": "bilinear",
        "size": (300, 200),
        "resize": "stretch",
        "labels": ("cat", "dog"),
    }
    said["CustomVision.Preprocess.ResizeMethod"] = "ByShorterSideAlign32"
    assert "ByShorterSideAlign32" in problem({"metadata_properties.json": said})


def test_windows_ml_says_colour_and_range():
    metadata = {"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "Normalized_1_1"}
    known = read(metadata=metadata)
    assert (255 * known["scale"] - known["mean"][0]) / known["std"][0] == pytest.approx(1.0)
    assert (0 * known["scale"] - known["mean"][0]) / known["std"][0] == pytest.approx(-1.0)
    assert known["color"] == "RGB"


def test_teachable_machine_numbers_its_names():
    assert read({"labels.txt": "0 red\n1 dark green\n"}) == {"labels": ("red", "dark green")}


def test_a_damaged_file_of_names_is_named_and_a_wish_goes_before_it():
    files = {"labels.json": '{"0": "a", "2": "b"}'}
    text = problem(files)
    assert "labels.json: the classes are numbered from 0 to 2 without 1" in text
    assert text.endswith("correct it, or import the model from a folder without that file")
    assert "labels" not in read(files, wishes=Wishes(labels=("a", "b")))


# Nothing that is written by others ends in a traceback.

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
KEYS = st.sampled_from(
    [
        *("pretrained_cfg", "input_size", "crop_pct", "crop_mode", "mean", "std", "label_names"),
        *("architecture", "model_type", "architectures", "id2label", "image_processor_type"),
        *("size", "crop_size", "resample", "image_mean", "image_std", "shortest_edge", "height"),
        *("PreProcess", "transform_ops", "ResizeImage", "NormalizeImage", "scale", "PostProcess"),
        *("dataset", "model", "preprocess_mode", "task", "names", "imgsz", "stride", "labels"),
    ]
)
VALUES = st.recursive(
    LEAVES | st.sampled_from(["ConvNextImageProcessor", "ViTImageProcessor", "center", "torch"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
DATA = st.dictionaries(KEYS, VALUES, max_size=6)
BYTES = st.binary(max_size=60) | TEXT.map(str.encode) | DATA.map(lambda d: json.dumps(d).encode())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.dictionaries(
        st.sampled_from([*FILES, *NAMES, "extra/config.txt"]), BYTES, max_size=4
    ),
    metadata=st.dictionaries(
        st.sampled_from([*ULTRALYTICS, "character"]) | TEXT, TEXT, max_size=4
    ),
)
def test_whatever_is_written_there_is_understood_or_refused(files, metadata):
    try:
        known = read_makers(MODEL, Evidence(files, metadata), Wishes())
    except ConversionError as error:
        assert "\n" not in str(error)
    else:
        assert all(choice.source.isprintable() for choice in known.values())
