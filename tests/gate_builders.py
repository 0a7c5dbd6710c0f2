# SPDX-License-Identifier: Apache-2.0
"""Bundles with int8 models, good and bad ones, and labelled pictures to judge them with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from perception_node.calibration.evaluation import Evaluation, Limits, evaluate, store_evaluation
from perception_node.calibration.images import open_images
from perception_node.model.bundle import (
    INT8_ON_CPU,
    MODEL_FILES,
    ModelBundle,
    add_files,
    load_bundle,
)
from tests.builders import LABELS, SIDE, encode, make_bundle, to_onnx

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
        color = [DARK, DARK, DARK]
        color[number % 3] = BRIGHT
        pixels = np.full((24, 32, 3), color, np.uint8) + random.integers(
            0, 16, (24, 32, 3), np.uint8
        )
        name = f"{number:03}_{LABELS[number % 3]}.png"
        (folder / name).write_bytes(encode(pixels, ".png"))
        truth[name] = number % 3
    return folder, truth


def write_truth(path: Path, truth: dict[str, int]) -> Path:
    """Write labels as ``perception evaluate`` reads them."""
    rows = "".join(f"{name},{index}\n" for name, index in truth.items())
    path.write_text(f"file,class_index\n{rows}")
    return path


def judge(bundle: ModelBundle, pictures: Path, truth=None, **limits) -> Evaluation:
    """Evaluate all models of a bundle that it has."""
    models = ["model.onnx", *(n for n in (FP16, INT8, INT8_ON_CPU) if n in bundle.files)]
    images = open_images(bundle, images=pictures)
    return evaluate(bundle, images, models, truth=truth, limits=Limits(**limits))


def gate(bundle: ModelBundle, scratch: Path) -> ModelBundle:
    """Return the bundle with the verdict that its models deserve."""
    pictures, truth = color_pictures(scratch / "pictures")
    return store_evaluation(bundle, judge(bundle, pictures, truth))
