# SPDX-License-Identifier: Apache-2.0
"""Read what Ultralytics writes into its exports: into the metadata of ONNX and of TorchScript.

Its ``classify_transforms`` brings the shorter side to ``imgsz`` and crops the centre, or stretches
to an ``imgsz`` that is not square; pixels are divided by 255 and that is all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from perception_node.engines.importing.makers.evidence import (
    ONES,
    UNIT,
    ZEROS,
    NoClassifier,
    Unusable,
    class_names,
    side,
)
from perception_node.engines.importing.makers.geometry import Values, cropped, stretched
from perception_node.engines.importing.settings import Choice
from perception_node.errors import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perception_node.engines.importing.makers.evidence import Evidence

SCRIPT_FILE = "extra/config.txt"  # inside a TorchScript archive
TASK = "classify"


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what an export of Ultralytics says."""
    source = "its metadata: Ultralytics"
    metadata = dict(evidence.metadata)
    values: Values = {}
    if config := evidence.json(SCRIPT_FILE):
        source = f"{SCRIPT_FILE}: Ultralytics"
        metadata = {key: _as_text(value) for key, value in config.items()}
        if "names" in config:
            values["labels"] = class_names(config["names"], f"{SCRIPT_FILE}: names")
    if not _is_ultralytics(metadata):
        return {}
    if problem := refuse(metadata):
        raise NoClassifier(problem)
    values |= {"color": "RGB", "mean": ZEROS, "std": ONES, "scale": UNIT}
    values["interpolation"] = "bilinear"
    if "imgsz" in metadata:
        values |= _geometry(metadata["imgsz"])
    if "AGPL-3.0" in metadata.get("license", ""):
        values["license"] = "AGPL-3.0-only"
    return {name: Choice(value, source) for name, value in values.items()}


def refuse(metadata: Mapping[str, str]) -> str:
    """Say why an export of Ultralytics cannot be imported: it is for another task; "" else."""
    task = metadata.get("task", TASK)
    if not _is_ultralytics(metadata) or task == TASK:
        return ""
    return f"its metadata says task {quote(task)}: only classifiers can be imported"


def _is_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Recognise it; YOLOv5 writes names and stride only, and normalises in another way."""
    return metadata.get("author") == "Ultralytics" or {"task", "stride", "names"} <= set(metadata)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _geometry(text: str) -> Values:
    try:
        sides = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"imgsz in its metadata is {quote(text)}, not [height, width]") from error
    sides = sides if isinstance(sides, list) else [sides, sides]
    if len(sides) != 2:
        raise Unusable(f"imgsz in its metadata is {quote(text)}, not [height, width]")
    height, width = (side(pixels, "imgsz in its metadata") for pixels in sides)
    return cropped(height, (height, width)) if height == width else stretched((height, width))
