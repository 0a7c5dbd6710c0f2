# SPDX-License-Identifier: Apache-2.0
"""In words: how much of a bundle's int8 models is int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.model.bundle import CALIBRATION, INT8_ON_CPU
from perception_node.model.sealed_json import parse
from perception_node.terminal.output import complain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perception_node.model.bundle import ModelBundle, Quantization

LITTLE_SHARE = 0.5
Rows = list[tuple[str, str]]


def describe_int8(bundle: ModelBundle) -> Rows:
    """Return rows about the int8 models of a bundle: a word, and what is to be said of it."""
    quantization = bundle.manifest.quantization
    found = shares(bundle)
    rows = [("int8", f"{name}: {describe_share(share)}") for name, share in found.items()]
    if quantization is None:
        return rows
    if CALIBRATION in bundle.files:
        text = f"int8: it came quantised, {quantization.form}, and was quantised again"
        return [("precision", text), *rows]
    return describe_quantization(quantization)


def describe_quantization(quantization: Quantization) -> Rows:
    """Return rows about a model that came quantised."""
    rows = [
        ("precision", f"int8: it came quantised, {quantization.form}"),
        ("int8", describe_share(quantization.int8_share)),
    ]
    if quantization.no_tensorrt:
        way = "perception calibrate --requantize measures other scales"
        rows.append(("TensorRT", f"cannot take it: {quantization.no_tensorrt}; {way}"))
    return rows


def describe_share(share: float) -> str:
    """Say how much of the work is int8, and whether that is too little to pay."""
    text = f"{share:.0%} of the multiplications"
    if share >= LITTLE_SHARE:
        return text
    return f"{text} only, so it hardly pays; fp16 may be as fast"


def warn_of_little(found: Mapping[str, float]) -> None:
    """Complain of each model, by its share of int8, that is not int8 for the most part."""
    for name, share in found.items():
        if share < LITTLE_SHARE:
            complain(f"warning: {name}: int8 does {describe_share(share)}")


def shares(bundle: ModelBundle) -> dict[str, float]:
    """Return the part of multiplications that is int8 of each int8 file of a bundle.

    Empty where it was calibrated before this was counted.
    """
    if CALIBRATION not in bundle.files:
        quantization = bundle.manifest.quantization
        return {} if quantization is None else {INT8_ON_CPU: quantization.int8_share}
    record = parse(bundle.read(CALIBRATION))
    found = record.get("int8_share", {}) if isinstance(record, dict) else {}
    return {name: float(share) for name, share in found.items() if name in bundle.files}
