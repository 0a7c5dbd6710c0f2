# SPDX-License-Identifier: Apache-2.0
"""Read the ``config.json`` of timm: ``pretrained_cfg``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.makers.evidence import (
    UNIT,
    Foreign,
    NoClassifier,
    Unusable,
    class_names,
    fraction,
    side,
    three,
)
from perception_node.engines.importing.makers.geometry import (
    Values,
    cropped,
    interpolation,
    stretched_then_cropped,
)
from perception_node.engines.importing.settings import Choice

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Evidence, Size

FILE = "config.json"
SOURCE = f"{FILE}: timm"


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return what timm says: what ``timm.data.create_transform`` does with it."""
    config = evidence.json(FILE) or {}
    cfg = config.get("pretrained_cfg", config if "architecture" in config else None)
    if not isinstance(cfg, dict) or "input_size" not in cfg:
        return {}
    if config.get("num_classes", cfg.get("num_classes")) == 0:
        raise NoClassifier(f"{FILE}: num_classes is 0: the network has no head, it gives features")
    size, crop_pct = _size(cfg, evidence.size)
    values: Values = {"color": "RGB", "scale": UNIT, **_geometry(cfg, size, crop_pct)}
    for name in ("mean", "std"):
        if name in cfg:
            values[name] = three(cfg[name], f"{FILE}: {name}")
    if "interpolation" in cfg:
        values |= interpolation(cfg["interpolation"])
    if labels := _labels(config, cfg):
        values["labels"] = labels
    return {name: Choice(value, SOURCE) for name, value in values.items()}


def _size(cfg: dict[str, Any], graph: Size | None) -> tuple[Size, float]:
    """Return the input's size and the crop that goes with it: those of tests if the graph's."""
    for prefix in ("test_", ""):
        shape = cfg.get(f"{prefix}input_size")
        if not isinstance(shape, list) or len(shape) != 3:
            continue
        name = f"{FILE}: {prefix}input_size"
        size = (side(shape[1], name), side(shape[2], name))
        if not prefix or size == graph:
            crop = cfg.get(f"{prefix}crop_pct") or cfg.get("crop_pct") or 0.875
            return size, fraction(crop, f"{FILE}: {prefix}crop_pct")
    raise Unusable(f"{FILE}: input_size is not [channels, height, width]")


def _geometry(cfg: dict[str, Any], size: Size, crop_pct: float) -> Values:
    mode = cfg.get("crop_mode") or "center"
    height, width = (math.floor(pixels / crop_pct) for pixels in size)
    if mode == "squash":
        return stretched_then_cropped((height, width), size)
    if mode == "center" and height == width:
        return cropped(height, size)
    if mode == "border" and crop_pct == 1.0:
        fill = [round(255 * value) for value in three(cfg.get("mean", 0.0), f"{FILE}: mean")]
        return {"size": size, "resize": "letterbox", "fill": tuple(fill)}
    return {"size": size, "resize": Foreign(f"crop_mode {mode} with crop_pct {crop_pct:g}")}


def _labels(config: dict[str, Any], cfg: dict[str, Any]) -> tuple[str, ...]:
    """Return the names, each in words where ``label_descriptions`` has them."""
    both = {**cfg, **config}
    if not both.get("label_names"):
        return ()
    words = both.get("label_descriptions")
    names = class_names(both["label_names"], f"{FILE}: label_names")
    if not isinstance(words, dict):
        return names
    return tuple(str(words.get(name, name)).strip() for name in names)
