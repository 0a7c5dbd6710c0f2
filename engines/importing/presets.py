# SPDX-License-Identifier: Apache-2.0
"""How families of classifiers want their images, for ``--preset``: values by name of setting."""

from __future__ import annotations

from typing import Any

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
UNIT = 1.0 / 255.0
_CROPPED = {"color": "RGB", "resize": "shorter-side", "scale": UNIT}

PRESETS: dict[str, dict[str, Any]] = {
    # torchvision, timm: Resize(256), CenterCrop(224), Normalize
    "imagenet": {
        **_CROPPED,
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    # Keras' preprocess_input(mode="tf"): from -1 to 1
    "tf": {
        "color": "RGB",
        "resize": "stretch",
        "interpolation": "bilinear",
        "scale": 1.0,
        "mean": (127.5, 127.5, 127.5),
        "std": (127.5, 127.5, 127.5),
    },
    # Keras' preprocess_input(mode="caffe"): the means are in the order B, G, R
    "caffe": {
        "color": "BGR",
        "resize": "stretch",
        "interpolation": "bilinear",
        "scale": 1.0,
        "mean": (103.939, 116.779, 123.68),
        "std": ONES,
    },
    # classify_transforms: the shorter side becomes the input's, nothing but ToTensor
    "ultralytics": {
        **_CROPPED,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": ZEROS,
        "std": ONES,
    },
    # OpenAI's, open_clip's and their descendants'
    "clip": {
        **_CROPPED,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    },
}
