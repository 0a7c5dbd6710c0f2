# SPDX-License-Identifier: Apache-2.0
"""The default model in lower precisions answers as in float32, on photos, in ONNX Runtime.

What the conversion costs, without what TensorRT's kernels may add. ``pytest -s`` prints it. The
photos are those of ``test_imagenet_sample.py``: some calibrate, others are asked.
"""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from perception_node.bundle import load_bundle
from perception_node.calibration.quantization import quantize
from perception_node.engines.half_precision import to_half_precision
from perception_node.frame import Frame
from perception_node.preprocess import FramePreprocessor
from tests.builders import ROOT

SAMPLE = ROOT.parent / "shared/data/imagenet-sample"
CALIBRATE_EVERY = 5  # of the photos that are used
USE_EVERY = 5  # of all 500

pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images at {SAMPLE}"),
]


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(ROOT / "models/efficientnet_lite0")


@pytest.fixture(scope="module")
def inputs(bundle):
    values = np.zeros((1, 3, 224, 224), np.float32)
    prepare = FramePreprocessor(bundle.manifest.preprocessing, values)
    made = []
    for file in sorted((SAMPLE / "images").iterdir())[::USE_EVERY]:
        prepare(Frame.from_bgr(cv2.imread(str(file))))
        made.append(values.copy())
    return made


@pytest.fixture(scope="module")
def asked(inputs):
    return [values for index, values in enumerate(inputs) if index % CALIBRATE_EVERY]


@pytest.fixture(scope="module")
def int8(bundle, inputs):
    return quantize(bundle.read(), inputs[::CALIBRATE_EVERY])


def run(model, inputs, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": values})[0] for values in inputs])


@pytest.fixture(scope="module")
def expected(bundle, asked):
    return run(bundle.read(), asked)


def compare(name, found, expected):
    """Print and return the largest difference, as a part of the range, and the agreement."""
    difference = float(np.abs(found - expected).max() / np.ptp(expected))
    agreement = float((found.argmax(1) == expected.argmax(1)).mean())
    print(  # noqa: T201 - the figures in the docstrings come from here
        f"\n{name}: {difference:.2%} of the range, same label for {agreement:.1%} of {len(found)}"
    )
    return difference, agreement


def test_float16(bundle, asked, expected):
    found = run(to_half_precision(bundle.read()), asked)
    difference, agreement = compare("fp16", found, expected)
    assert difference < 0.01
    assert agreement > 0.98


def test_int8(int8, asked, expected):
    difference, agreement = compare("int8", run(int8, asked), expected)
    assert difference < 0.15
    assert agreement > 0.93


def test_int8_with_float16_around_it(int8, asked, expected):
    # ONNX Runtime 1.32 folds float16 scales wrongly when it optimises; TensorRT is what reads them
    unoptimized = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = run(to_half_precision(int8), asked, unoptimized)
    difference, agreement = compare("int8 and fp16", found, expected)
    assert difference < 0.15
    assert agreement > 0.93
