# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.maker_builders import ONES, ZEROS, problem, read


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
