# SPDX-License-Identifier: Apache-2.0
"""Read what lies beside an export of NVIDIA TAO: DeepStream's configuration and TAO's own.

Both say how pixels become numbers: ``net-scale-factor * (pixel - offset)``, or the mode of
Keras' ``preprocess_input``. TAO's says nothing that is sure about resizing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.makers.evidence import (
    ONES,
    UNIT,
    Foreign,
    Unusable,
    side,
    three,
)
from perception_node.engines.importing.settings import Choice
from perception_node.errors import quote

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Evidence
    from perception_node.engines.importing.makers.geometry import Values

DEEPSTREAM = ("nvinfer_config.txt", "config_infer_primary.txt", "config_infer_secondary.txt")
TAO = ("experiment.yaml", "experiment_spec.yaml", "spec.yaml", "train.yaml", "export.yaml")
COLORS = {"0": "RGB", "1": "BGR"}
HALF = (127.5, 127.5, 127.5)
MODES: dict[str, Values] = {
    "torch": {
        "color": "RGB",
        "scale": UNIT,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "tf": {"color": "RGB", "scale": 1.0, "mean": HALF, "std": HALF},
    "caffe": {"color": "BGR", "scale": 1.0, "mean": (103.939, 116.779, 123.68), "std": ONES},
}


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what the first file says that is there; DeepStream's says more."""
    for name in DEEPSTREAM:
        settings = _properties(evidence.text(name) or "")
        if "net-scale-factor" in settings or "offsets" in settings:
            return _with_source(_read_deepstream(name, settings), f"{name}: DeepStream")
    for name in TAO:
        spec = evidence.yaml(name)
        if spec is not None and isinstance(spec.get("dataset"), dict):
            return _with_source(_read_spec(name, spec), f"{name}: NVIDIA TAO")
    return {}


def _with_source(values: Values, source: str) -> dict[str, Choice]:
    return {name: Choice(value, source) for name, value in values.items()}


def _properties(text: str) -> dict[str, str]:
    """Return the lines ``key=value`` of DeepStream's form; a line with # is a comment."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _read_deepstream(file: str, settings: dict[str, str]) -> Values:
    color = settings.get("model-color-format", "0")
    values: Values = {"color": COLORS.get(color, Foreign(f"model-color-format {color[:20]}"))}
    offsets = _numbers(file, settings.get("offsets", "0"))
    (factor, *_) = _numbers(file, settings.get("net-scale-factor", "1"))
    if factor <= 0.0:
        raise Unusable(f"{file}: net-scale-factor is {factor:g}, not above 0")
    values["scale"] = 1.0
    values["mean"] = three(offsets, f"{file}: offsets")
    values["std"] = (1.0 / factor,) * 3
    if "infer-dims" in settings:
        dims = _numbers(file, settings["infer-dims"])
        if len(dims) != 3:
            raise Unusable(f"{file}: infer-dims is not channels;height;width")
        values["size"] = tuple(side(pixels, f"{file}: infer-dims") for pixels in dims[1:])
    values["resize"] = _deepstream_resize(settings)
    return values


def _deepstream_resize(settings: dict[str, str]) -> str | Foreign:
    if settings.get("maintain-aspect-ratio", "0") == "0":
        return "stretch"
    if settings.get("symmetric-padding", "0") == "1":
        return "letterbox"
    return Foreign("maintain-aspect-ratio with padding at one side")


def _numbers(file: str, text: str) -> list[float]:
    """Return the numbers of ``1;2;3``."""
    try:
        return [float(part) for part in text.split(";") if part.strip()] or [0.0]
    except ValueError as error:
        raise Unusable(f"{file}: {quote(text)} is not a list of numbers") from error


def _read_spec(file: str, spec: dict[str, Any]) -> Values:
    dataset = spec["dataset"]
    values: Values = {}
    mode = dataset.get("preprocess_mode")
    if mode is not None:
        if mode not in MODES:
            raise Unusable(f"{file}: preprocess_mode is not {', '.join(MODES)}")
        values = dict(MODES[mode])
        if mode == "caffe" and dataset.get("image_mean"):
            values["mean"] = three(dataset["image_mean"], f"{file}: image_mean")
    else:
        values = _read_augmentation(file, dataset.get("augmentation"))
    model = spec.get("model")
    model = model if isinstance(model, dict) else {}
    if {"input_height", "input_width"} <= model.keys():
        sides = (model["input_height"], model["input_width"])
        values["size"] = tuple(side(pixels, f"{file}: model.input size") for pixels in sides)
    elif "img_size" in dataset:
        pixels = side(dataset["img_size"], f"{file}: dataset.img_size")
        values["size"] = (pixels, pixels)
    return values


def _read_augmentation(file: str, augmentation: object) -> Values:
    """Return the statistics of TAO's networks in PyTorch: of RGB pixels from 0 to 1."""
    if not isinstance(augmentation, dict) or not {"mean", "std"} <= augmentation.keys():
        return {}
    mean, std = (three(augmentation[key], f"{file}: {key}") for key in ("mean", "std"))
    return {"color": "RGB", "scale": UNIT, "mean": mean, "std": std}
