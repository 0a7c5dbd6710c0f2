# SPDX-License-Identifier: Apache-2.0
"""Read the ``inference.yml`` of PaddleClas and PaddleX, and the labels that RapidOCR embeds."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.makers.evidence import (
    ONES,
    ZEROS,
    Foreign,
    Unusable,
    class_names,
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
from perception_node.model.bundle import ANTIALIASED

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Evidence, Size

FILES = ("inference.yml", "inference.yaml", "deploy.yaml", "inference_cls.yaml")
RESIZES = ("ResizeImage", "Resize")
CROPS = ("CropImage", "Crop")
NORMALISES = ("NormalizeImage", "Normalize")
# What changes no pixel.
HARMLESS = {"DecodeImage", "ReadImage", "ToCHWImage", "ToBatch", "KeepKeys"}
Operations = dict[str, dict[str, Any]]


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what the list of preprocessing says, and the class names."""
    for file in FILES:
        data = evidence.yaml(file)
        if data is not None and isinstance(data.get("PreProcess"), dict):
            values = _read_steps(file, _operations(file, data["PreProcess"]))
            if labels := _labels(evidence, file, data.get("PostProcess")):
                values["labels"] = labels
            return {name: Choice(value, file) for name, value in values.items()}
    if "character" in evidence.metadata:  # as RapidOCR writes it into ONNX
        names = evidence.metadata["character"].splitlines()
        return {"labels": Choice(class_names(names, "character"), "its metadata: character")}
    return {}


def _operations(file: str, preprocess: dict[str, Any]) -> Operations:
    """Return the steps in their order: each is a name with its arguments."""
    steps = preprocess.get("transform_ops")
    if not isinstance(steps, list):
        raise Unusable(f"{file}: PreProcess has no transform_ops")
    operations: Operations = {}
    for step in steps:
        if not isinstance(step, dict) or len(step) != 1:
            raise Unusable(f"{file}: a step of transform_ops is no name with arguments")
        ((name, arguments),) = step.items()
        operations[str(name)] = arguments if isinstance(arguments, dict) else {}
    return operations


def _read_steps(file: str, operations: Operations) -> Values:
    values: Values = {"color": _color(operations)}
    known = {*HARMLESS, *RESIZES, *CROPS, *NORMALISES}
    values |= _geometry(file, operations)
    values |= _normalisation(file, _find(operations, NORMALISES))
    if others := sorted(set(operations) - known):
        values["resize"] = Foreign(others[0])
    return values


def _find(operations: Operations, names: tuple[str, ...]) -> dict[str, Any] | None:
    return next((operations[name] for name in names if name in operations), None)


def _color(operations: Operations) -> str:
    decode = operations.get("DecodeImage", {})
    return "RGB" if decode.get("to_rgb", True) else "BGR"


def _geometry(file: str, operations: Operations) -> Values:
    resize, crop = _find(operations, RESIZES), _find(operations, CROPS)
    if resize is None:
        return {}
    size = _size(crop.get("size", crop.get("crop_size")), file) if crop is not None else None
    values = _interpolation(resize)
    shorter = resize.get("resize_short", resize.get("target_short_edge"))
    if shorter is not None:
        if size is None:
            return values | {"resize": Foreign("resize_short without CropImage")}
        return values | cropped(side(shorter, f"{file}: resize_short"), size)
    both = _size(resize.get("size", resize.get("target_size")), file)
    return values | (stretched_then_cropped(both, size) if size else stretched(both))


def _interpolation(resize: dict[str, Any]) -> Values:
    """Return the kernel; unless said otherwise, it is OpenCV's, which does not antialias."""
    values = interpolation(resize.get("interpolation") or resize.get("interp") or "bilinear")
    if resize.get("backend", "cv2") == "cv2" and values["interpolation"] in ANTIALIASED:
        values["interpolation"] += "-aliased"
    return values


def _size(value: object, file: str) -> Size:
    """Return height and width of one number, or of [width, height]."""
    if isinstance(value, list) and len(value) == 2:
        return side(value[1], f"{file}: size"), side(value[0], f"{file}: size")
    pixels = side(value, f"{file}: size")
    return pixels, pixels


def _normalisation(file: str, arguments: dict[str, Any] | None) -> Values:
    if arguments is None:
        return {"mean": ZEROS, "std": ONES, "scale": 1.0}
    values: Values = {"scale": _scale(arguments.get("scale", "1.0/255.0"), file)}
    for name in ("mean", "std"):
        if name in arguments:
            values[name] = three(arguments[name], f"{file}: {name}")
    return values


def _scale(value: object, file: str) -> float:
    """Return a number, or what a text such as ``1.0/255.0`` stands for."""
    name = f"{file}: scale"
    if not isinstance(value, str):
        return number(value, name)
    try:
        above, _, below = value.partition("/")
        return number(float(above) / float(below or 1.0), name)
    except (ValueError, ZeroDivisionError) as error:
        raise Unusable(f"{name} is {quote(value)}, not a number") from error


def _labels(evidence: Evidence, file: str, postprocess: object) -> tuple[str, ...]:
    """Return the names that a step of postprocessing holds, or the file beside that it names."""
    steps = postprocess.values() if isinstance(postprocess, dict) else ()
    for step in (step for step in steps if isinstance(step, dict)):
        if step.get("label_list"):
            return class_names(step["label_list"], f"{file}: label_list")
        name = posixpath.basename(str(step.get("class_id_map_file", "")))
        if labels := evidence.labels(name):
            return labels
    return ()
