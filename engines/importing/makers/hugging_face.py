# SPDX-License-Identifier: Apache-2.0
"""Read a folder of Hugging Face: ``config.json`` and ``preprocessor_config.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perception_node.engines.importing.makers.evidence import (
    ONES,
    UNIT,
    ZEROS,
    Foreign,
    NoClassifier,
    Unusable,
    class_names,
    fraction,
    number,
    side,
    three,
)
from perception_node.engines.importing.makers.geometry import (
    Values,
    cropped,
    interpolation,
    stretched,
    stretched_then_cropped,
)
from perception_node.engines.importing.settings import Choice
from perception_node.errors import quote

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Evidence, Size

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
STRETCH_FROM = 384  # ConvNext: from here on it stretches and does not crop


class Processor(NamedTuple):
    """What an image processor does where its file is silent.

    Attributes:
        square: a lone number as ``size`` is both sides, else the shorter one.
        crops: it crops the centre.
        resample: PIL's code.

    """

    square: bool
    crops: bool
    resample: int


BILINEAR, BICUBIC = 2, 3
# By name, without ImageProcessor, FeatureExtractor, Fast and Pil.
PROCESSORS_BY_NAME = {
    "Beit": Processor(square=True, crops=False, resample=BICUBIC),
    "Bit": Processor(square=False, crops=True, resample=BICUBIC),
    "CLIP": Processor(square=False, crops=True, resample=BICUBIC),
    "ChineseCLIP": Processor(square=False, crops=True, resample=BICUBIC),
    "ConvNext": Processor(square=False, crops=False, resample=BICUBIC),
    "DINOv3ViT": Processor(square=True, crops=False, resample=BILINEAR),
    "DeiT": Processor(square=True, crops=True, resample=BICUBIC),
    "EfficientNet": Processor(square=True, crops=False, resample=BICUBIC),
    "Levit": Processor(square=False, crops=True, resample=BICUBIC),
    "MobileNetV1": Processor(square=False, crops=True, resample=BILINEAR),
    "MobileNetV2": Processor(square=False, crops=True, resample=BILINEAR),
    "MobileViT": Processor(square=False, crops=True, resample=BICUBIC),
    "Perceiver": Processor(square=True, crops=True, resample=BICUBIC),
    "PoolFormer": Processor(square=False, crops=True, resample=BICUBIC),
    "Pvt": Processor(square=True, crops=False, resample=BICUBIC),
    "Segformer": Processor(square=True, crops=False, resample=BILINEAR),
    "Siglip": Processor(square=False, crops=False, resample=BICUBIC),
    "ViT": Processor(square=True, crops=False, resample=BILINEAR),
    "ViTHybrid": Processor(square=False, crops=True, resample=BICUBIC),
}
# Which one goes with a type of model, where the file does not name it.
NAMES_BY_MODEL = {
    "beit": "Beit",
    "bit": "Bit",
    "clip": "CLIP",
    "convnext": "ConvNext",
    "convnextv2": "ConvNext",
    "cvt": "ConvNext",
    "data2vec-vision": "Beit",
    "deit": "DeiT",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "efficientnet": "EfficientNet",
    "focalnet": "Bit",
    "hiera": "Bit",
    "levit": "Levit",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilevit": "MobileViT",
    "mobilevitv2": "MobileViT",
    "poolformer": "PoolFormer",
    "pvt": "Pvt",
    "pvt_v2": "Pvt",
    "regnet": "ConvNext",
    "resnet": "ConvNext",
    "segformer": "Segformer",
    "siglip": "Siglip",
    "swiftformer": "ViT",
    "swin": "ViT",
    "swinv2": "ViT",
    "vit": "ViT",
    "vit_msn": "ViT",
}
# What would change the pixels in a way that is not ours.
UNKNOWN_STEPS = ("do_pad", "do_color_quantize", "do_image_splitting", "do_thumbnail")


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what the two files say."""
    config = evidence.json(CONFIG) or {}
    known = _read_config(config)
    for name in PROCESSORS:
        settings = evidence.json(name)
        if settings is not None:
            settings = settings.get("image_processor", settings)
            if isinstance(settings, dict):
                return known | _read_processor(name, settings, str(config.get("model_type")))
    return known


def _read_config(config: dict[str, Any]) -> dict[str, Choice]:
    if "model_type" not in config or "pretrained_cfg" in config:
        return {}
    architectures = config.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        _, is_for, task = str(name).partition("For")
        if is_for and "Classification" not in task:
            raise NoClassifier(
                f"{CONFIG}: {quote(str(name))}: only image classifiers can be imported"
            )
    values: Values = {}
    if "id2label" in config:
        values["labels"] = class_names(config["id2label"], f"{CONFIG}: id2label")
    if config.get("problem_type") == "multi_label_classification":
        values["output"] = "sigmoid-logits"
    return {key: Choice(value, CONFIG) for key, value in values.items()}


def _read_processor(file: str, settings: dict[str, Any], model: str) -> dict[str, Choice]:
    said = settings.get("image_processor_type", settings.get("feature_extractor_type"))
    name = NAMES_BY_MODEL.get(model, "") if said is None else _short_name(str(said))
    source = file if said is None else f"{file}: {str(said)[:40]}"
    values: Values = _numbers(file, name, settings)
    if name in PROCESSORS_BY_NAME:
        values |= _geometry(file, name, settings)
    else:
        values["resize"] = Foreign(f"{said or 'an image processor without a name'}")
    for step in UNKNOWN_STEPS:
        if settings.get(step):
            values["resize"] = Foreign(step)
    return {key: Choice(value, source) for key, value in values.items()}


def _short_name(name: str) -> str:
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    return name


def _numbers(file: str, name: str, settings: dict[str, Any]) -> Values:
    """Return colour, scale, mean and std."""
    values: Values = {"color": "RGB", "mean": ZEROS, "std": ONES, "scale": 1.0}
    if settings.get("do_rescale", True):
        factor = number(settings.get("rescale_factor", UNIT), f"{file}: rescale_factor")
        values["scale"] = factor
    if settings.get("do_normalize", name != "MobileViT"):
        for key in ("mean", "std"):
            if f"image_{key}" in settings:
                values[key] = three(settings[f"image_{key}"], f"{file}: image_{key}")
            else:
                del values[key]
    if settings.get("do_flip_channel_order", name == "MobileViT"):
        values["color"] = "BGR"
        if settings.get("do_normalize"):
            values["color"] = Foreign("a normalisation before do_flip_channel_order")
    return _efficient_net(settings, values) if name == "EfficientNet" else values


def _efficient_net(settings: dict[str, Any], values: Values) -> Values:
    """Apply what only this one does: it divides by std once more, and may subtract 1 first."""
    if settings.get("rescale_offset") and "mean" in values:
        values["mean"] = tuple(value + 1.0 for value in values["mean"])
    if settings.get("include_top", True) and "image_std" in settings and "std" in values:
        again = three(settings["image_std"], "image_std")
        values["std"] = tuple(a * b for a, b in zip(values["std"], again, strict=True))
    return values


def _geometry(file: str, name: str, settings: dict[str, Any]) -> Values:
    processor = PROCESSORS_BY_NAME[name]
    values = interpolation(settings.get("resample", processor.resample))
    if not settings.get("do_resize", True):
        return values | {"resize": Foreign("do_resize false")}
    if "size" not in settings:
        return values
    both = _sides(settings["size"], f"{file}: size", square=processor.square)
    crop: Size | None = None
    if settings.get("do_center_crop", processor.crops):
        wanted = settings.get("crop_size", settings["size"])
        sides = _sides(wanted, f"{file}: crop_size", square=True)
        crop = sides if isinstance(sides, tuple) else (sides, sides)
    if isinstance(both, tuple):
        return values | _from_both_sides(name, both, crop, settings)
    return values | _from_shorter_side(file, name, both, crop, settings)


def _sides(size: object, name: str, *, square: bool) -> Size | int:
    """Return height and width, or the shorter side alone."""
    if not isinstance(size, dict):
        if isinstance(size, list) and len(size) == 2:
            return side(size[0], name), side(size[1], name)
        pixels = side(size, name)
        return (pixels, pixels) if square else pixels
    if "shortest_edge" in size:
        return side(size["shortest_edge"], name)
    if {"height", "width"} <= size.keys():
        return side(size["height"], name), side(size["width"], name)
    raise Unusable(f"{name} is neither height and width nor shortest_edge")


def _from_both_sides(name: str, both: Size, crop: Size | None, settings: dict[str, Any]) -> Values:
    if name == "Perceiver" and crop:  # it crops first
        return cropped(crop[0], both) if both[0] == both[1] else {"resize": Foreign(name)}
    if name == "PoolFormer" and settings.get("crop_pct") and both[0] == both[1]:
        return cropped(int(both[0] / fraction(settings["crop_pct"], "crop_pct")), crop or both)
    return stretched_then_cropped(both, crop) if crop else stretched(both)


def _from_shorter_side(
    file: str, name: str, shorter: int, crop: Size | None, settings: dict[str, Any]
) -> Values:
    if name == "ConvNext":
        square = (shorter, shorter)
        if shorter >= STRETCH_FROM:
            return stretched(square)
        crop_pct = settings.get("crop_pct") or 224 / 256
        return cropped(int(shorter / fraction(crop_pct, f"{file}: crop_pct")), square)
    if name == "Levit":
        shorter = int(256 / 224 * shorter)
    elif name == "PoolFormer" and settings.get("crop_pct"):
        shorter = int(shorter / fraction(settings["crop_pct"], f"{file}: crop_pct"))
    if crop is None:
        return {"resize": Foreign("shortest_edge without a crop")}
    return cropped(shorter, crop)
