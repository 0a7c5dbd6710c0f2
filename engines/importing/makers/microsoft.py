# SPDX-License-Identifier: Apache-2.0
"""Read the metadata of Windows ML, and of Azure Custom Vision in it or in its own file.

https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from perception_node.engines.importing.makers.evidence import (
    ONES,
    UNIT,
    ZEROS,
    Foreign,
    NoClassifier,
    side,
)
from perception_node.engines.importing.makers.geometry import Values, stretched
from perception_node.engines.importing.settings import Choice
from perception_node.errors import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perception_node.engines.importing.makers.evidence import Evidence

FILE = "metadata_properties.json"
AZURE = "CustomVision."
COLORS = {"rgb8": "RGB", "bgr8": "BGR"}
RANGES: dict[str, Values] = {
    "nominalrange_0_255": {"scale": 1.0, "mean": ZEROS, "std": ONES},
    "normalized_0_1": {"scale": UNIT, "mean": ZEROS, "std": ONES},
    "normalized_1_1": {"scale": 2.0 * UNIT, "mean": ONES, "std": ONES},
}


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what the metadata says; the file's goes before the model's."""
    metadata, source = dict(evidence.metadata), "its metadata"
    if said := evidence.json(FILE):
        metadata |= {key: value for key, value in said.items() if isinstance(value, str)}
        source = FILE
    values: Values = {}
    color = metadata.get("Image.BitmapPixelFormat", "").lower()
    if color:
        values["color"] = COLORS.get(color, Foreign(f"pixel format {color}"))
    span = metadata.get("Image.NominalPixelRange", "").lower()
    if span:
        values |= RANGES.get(span, {"scale": Foreign(f"pixel range {span}")})
    if any(key.startswith(AZURE) for key in metadata):
        source = f"{source}: Azure Custom Vision"
        values |= _read_custom_vision(metadata)
    return {name: Choice(value, source) for name, value in values.items()}


def _read_custom_vision(metadata: Mapping[str, str]) -> Values:
    """Return the geometry; its own sample code stretches, whatever the shape of the image."""
    method = metadata.get(f"{AZURE}Postprocess.Method", "")
    if method and not method.startswith("Classification"):
        raise NoClassifier(f"its metadata says {quote(method)}: only classifiers can be imported")
    values: Values = {"interpolation": "bilinear"}
    sides = [metadata.get(f"{AZURE}Preprocess.Target{name}", "0") for name in ("Height", "Width")]
    if all(pixels.isdecimal() and len(pixels) < 6 for pixels in sides) and "0" not in sides:
        height, width = (side(int(pixels), "the target size in its metadata") for pixels in sides)
        values |= stretched((height, width))
    resize = metadata.get(f"{AZURE}Preprocess.ResizeMethod", "Stretch")
    values["resize"] = "stretch" if resize == "Stretch" else Foreign(f"ResizeMethod {resize}")
    for name, neutral in (("Mean", list(ZEROS)), ("Std", list(ONES))):
        text = metadata.get(f"{AZURE}Preprocess.Normalize{name}", json.dumps(neutral))
        if text.replace(" ", "") != json.dumps(neutral).replace(" ", ""):
            values[name.lower()] = Foreign(f"Normalize{name} {text[:40]}")
    return values
