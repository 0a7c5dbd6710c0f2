# SPDX-License-Identifier: Apache-2.0
"""The default model, calibrated with one half of 500 photos, judged on the other half.

In ONNX Runtime: what the conversion costs, without what TensorRT's kernels may add. ``pytest -s``
prints the figures that docstrings and pages quote. The photos are those of
``test_imagenet_sample.py``.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from perception_node.calibration.calibrate import calibrate
from perception_node.calibration.images import open_images, read_labels
from perception_node.calibration.quantization import quantize_for_cpu, quantize_for_tensorrt
from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.model.bundle import add_files, load_bundle
from tests.builders import ROOT

SAMPLE = ROOT.parent / "shared/data/imagenet-sample"
INT8 = ("model.int8.onnx", "model.int8.cpu.onnx")
LEAST_AGREEMENT = 0.96
LARGEST_DROP, LARGEST_DROP_FP16 = 0.010, 0.002
RUNS = 100

pytestmark = [
    pytest.mark.alone,
    pytest.mark.accuracy,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images at {SAMPLE}"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "efficientnet_lite0"
    shutil.copytree(ROOT / "models/efficientnet_lite0", folder)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def photos(bundle):
    return open_images(bundle, images=SAMPLE / "images")


@pytest.fixture(scope="module")
def calibration(bundle, photos):
    return calibrate(bundle, photos.subset(photos.names[::2]), "minmax")


@pytest.fixture(scope="module")
def unseen(photos):
    """The inputs and the right classes of the other half."""
    judged = photos.subset(photos.names[1::2])
    labels = read_labels(SAMPLE / "ground_truth.csv", judged.names, 1000)
    return [image.values for image in judged], np.array([labels[name] for name in judged.names])


def session(model, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, inputs, **options):
    runs = session(model, **options)
    return np.concatenate([runs.run(None, {"image": values})[0] for values in inputs])


@pytest.fixture(scope="module")
def expected(bundle, unseen):
    return run(bundle.read(), unseen[0])


def judge(name, found, expected, truth):
    """Print and return the agreement with float32 and the loss of top-1."""
    agreement = float((found.argmax(1) == expected.argmax(1)).mean())
    top_1 = [float((logits.argmax(1) == truth).mean()) for logits in (expected, found)]
    error = float(np.sqrt(((found - expected) ** 2).mean()) / np.ptp(expected))
    largest = float(np.abs(found - expected).max() / np.ptp(expected))
    print(
        f"\n{name}: top-1 {top_1[1]:.1%} (float32 {top_1[0]:.1%}), same label {agreement:.1%}, "
        f"error {error:.2%} of the range, {largest:.2%} at most"
    )
    return agreement, top_1[0] - top_1[1], error


@pytest.mark.parametrize("name", INT8)
def test_int8(calibration, unseen, expected, name):
    inputs, truth = unseen
    agreement, drop, _ = judge(name, run(calibration.files[name], inputs), expected, truth)
    assert agreement >= LEAST_AGREEMENT
    assert drop <= LARGEST_DROP


def test_float16(calibration, unseen, expected):
    inputs, truth = unseen
    found = run(calibration.files["model.fp16.onnx"], inputs)
    agreement, drop, _ = judge("fp16", found, expected, truth)
    assert agreement > 0.98
    assert drop <= LARGEST_DROP_FP16


def test_int8_with_float16_around_it(calibration, unseen, expected):
    # ONNX Runtime 1.32 folds float16 scales wrongly when it optimises; TensorRT is what reads them
    inputs, truth = unseen[0][::5], unseen[1][::5]
    model = to_half_precision(calibration.files["model.int8.onnx"])
    found = run(model, inputs, level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    agreement, _, error = judge("int8 and fp16", found, expected[::5], truth)
    assert agreement >= 0.94
    assert error < 0.01


@pytest.mark.parametrize("flavour", [quantize_for_tensorrt, quantize_for_cpu])
def test_corrected_biases_are_worth_it(calibration, unseen, expected, flavour):
    inputs, truth = unseen
    plain, corrected = (
        judge(
            f"{flavour.__name__}, biases {text}",
            run(flavour(calibration.model, calibration.ranges, means=means), inputs),
            expected,
            truth,
        )
        for text, means in (("as they are", None), ("corrected", calibration.means))
    )
    assert corrected[2] < 0.8 * plain[2]


def test_on_a_cpu_every_convolution_runs_in_int8(bundle, calibration, unseen, tmp_path):
    """That is what makes it fast: 0.65 of float32's time at most, with VNNI; this prints it."""
    model = calibration.files["model.int8.cpu.onnx"]
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4  # that the result is for this machine only
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    sessions = [session(bundle.read()), session(model)]
    times = [[], []]
    for values in unseen[0][:RUNS]:  # in turns, so that both see the same load
        for runs, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            runs.run(None, {"image": values})
            taken.append(time.perf_counter() - start)
    float32, int8 = (float(np.median(taken)) * 1e3 for taken in times)
    print(f"\nint8 {int8:.2f} ms, float32 {float32:.2f} ms: {int8 / float32:.2f}")
    assert kinds["QLinearConv"] == 49
    assert not kinds["Conv"] + kinds["FusedConv"]


def test_the_same_photos_give_the_same_files(bundle, photos, calibration):
    again = calibrate(bundle, photos.subset(photos.names[::2]), "minmax")
    assert again.files == calibration.files


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_nvidias_builder_takes_what_is_in_the_bundle(bundle, calibration, precision):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    filled = add_files(bundle, calibration.files)
    names = {"fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
    model = filled.read(names[precision])
    if precision == "int8":
        model = to_half_precision(model)
    built = build_plan(load_tensorrt("tensorrt-rtx"), model, precision, BuildOptions())
    assert built.is_strongly_typed
