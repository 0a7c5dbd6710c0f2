# SPDX-License-Identifier: Apache-2.0
"""Bundles with int8 models, good and bad ones, and labelled pictures to judge them with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from perception_node.calibration.evaluation import Evaluation, evaluate, store_evaluation
from perception_node.calibration.images import open_images
from perception_node.calibration.judging import Limits
from perception_node.model.bundle import (
    INT8_ON_CPU,
    MODEL_FILES,
    ModelBundle,
    Output,
    add_files,
    load_bundle,
)
from tests.builders import LABELS, MANIFEST, SIDE, color_network, encode, make_bundle, to_onnx

if TYPE_CHECKING:
    from pathlib import Path

INT8 = MODEL_FILES["int8"]
FP16 = MODEL_FILES["fp16"]
BRIGHT, DARK = 220, 20


def int8_color_network(gain: float = 12.0, order=(0, 1, 2)) -> bytes:
    """Return the network that sees colours with a real int8 input and int8 weights.

    Logit i is ``gain`` times the mean of colour plane ``order[i]``: another order is a bad model.
    """
    weights = np.zeros((3, 3), np.int8)
    for index, plane in enumerate(order):
        weights[plane, index] = 127
    values = {
        "image_scale": np.float32(1 / 255),
        "image_zero": np.uint8(0),
        "weight_scale": np.float32(gain / 127),
        "weight_zero": np.int8(0),
        "weights": weights,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "image_scale", "image_zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "image_scale", "image_zero"], ["x"]),
        helper.make_node("ReduceMean", ["x"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"]),
        helper.make_node("MatMul", ["means", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "int8_colors",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return to_onnx(graph)


def int8_bundle(folder: Path, *, model: bytes | None = None) -> ModelBundle:
    """Return a bundle with both int8 models, by default good ones, that nobody has evaluated."""
    content = int8_color_network() if model is None else model
    return add_files(load_bundle(make_bundle(folder)), {INT8: content, INT8_ON_CPU: content})


def color_pictures(folder: Path, count: int = 60, *, seed: int = 0) -> tuple[Path, dict[str, int]]:
    """Write pictures of the three classes in turn; return the folder and the truth by name."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    truth = {}
    for number in range(count):
        pixels = _noisy([BRIGHT if number % 3 == index else DARK for index in range(3)], random)
        name = f"{number:03}_{LABELS[number % 3]}.png"
        (folder / name).write_bytes(encode(pixels, ".png"))
        truth[name] = number % 3
    return folder, truth


def mixed_pictures(folder: Path, count: int = 64) -> tuple[Path, dict[str, frozenset[int]]]:
    """Write pictures with none to all of the three colours; return the folder and the truth."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    truth = {}
    for number in range(count):
        shown = frozenset(index for index in range(3) if number >> index & 1)
        color = [BRIGHT if index in shown else DARK for index in range(3)]
        (folder / f"{number:03}.png").write_bytes(encode(_noisy(color, random), ".png"))
        truth[f"{number:03}.png"] = shown
    return folder, truth


def _noisy(color, random):
    return np.full((24, 32, 3), color, np.uint8) + random.integers(0, 16, (24, 32, 3), np.uint8)


def write_truth(path: Path, truth: dict[str, int]) -> Path:
    """Write labels as ``perception evaluate`` reads them."""
    rows = "".join(f"{name},{index}\n" for name, index in truth.items())
    path.write_text(f"file,class_index\n{rows}")
    return path


def write_label_sets(path: Path, truth: dict[str, frozenset[int]]) -> Path:
    """Write labels of a multi-label model: a row for each, one without a number for none."""
    rows = [f"{name},{index}" for name, shown in truth.items() for index in sorted(shown) or [""]]
    path.write_text("\n".join(["file,class_index", *rows]))
    return path


def multi_label_bundle(folder: Path, order=(0, 1, 2), **output) -> ModelBundle:
    """Return a bundle whose labels are the colours above half brightness, with int8 models."""
    manifest = replace(MANIFEST, output=Output("logits", "sigmoid-logits", 3, **output))
    bundle = load_bundle(make_bundle(folder, with_offset(color_network()), manifest))
    content = with_offset(int8_color_network(order=order))
    return add_files(bundle, {INT8: content, INT8_ON_CPU: content})


def with_offset(model: bytes, offset: float = -6.0) -> bytes:
    """Return a model whose logits are less by 6, so that grey is 0."""
    changed = onnx.load_model_from_string(model)
    changed.graph.node[-1].output[0] = "raw"
    changed.graph.node.append(helper.make_node("Add", ["raw", "offset"], ["logits"]))
    changed.graph.initializer.append(numpy_helper.from_array(np.float32(offset), "offset"))
    return changed.SerializeToString()


def judge(bundle: ModelBundle, pictures: Path, truth=None, **limits) -> Evaluation:
    """Evaluate all models of a bundle that it has."""
    models = ["model.onnx", *(n for n in (FP16, INT8, INT8_ON_CPU) if n in bundle.files)]
    images = open_images(bundle, images=pictures)
    return evaluate(bundle, images, models, truth=truth, limits=Limits(**limits))


def gate(bundle: ModelBundle, scratch: Path) -> ModelBundle:
    """Return the bundle with the verdict that its models deserve."""
    pictures, truth = color_pictures(scratch / "pictures")
    return store_evaluation(bundle, judge(bundle, pictures, truth))
