# SPDX-License-Identifier: Apache-2.0
"""The makers' own ways of preparing images, before a trained network: our EfficientNet-Lite0.

What stands in front of it undoes a maker's normalisation and applies that of its training.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from tests.builders import ROOT

BUNDLE = ROOT / "models/efficientnet_lite0"
NAMES = (BUNDLE / "labels.txt").read_text().splitlines()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def trained_network(mean, std, metadata=None):
    """Return the network as ONNX for pixels from 0 to 1 that were normalised so."""
    model = onnx.load(BUNDLE / "model.onnx")
    graph = model.graph
    name = graph.input[0].name
    factor = np.array(std, np.float32) * 255 / 128
    offset = (np.array(mean, np.float32) * 255 - 127) / 128
    for key, values in (("factor", factor), ("offset", offset)):
        graph.initializer.append(numpy_helper.from_array(values.reshape(1, 3, 1, 1), key))
    graph.node.insert(0, helper.make_node("Mul", ["pixel_values", "factor"], ["scaled"]))
    graph.node.insert(1, helper.make_node("Add", ["scaled", "offset"], [name]))
    graph.input[0].name = "pixel_values"
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


def classifier(network, prepare):
    """Return the function from an image of Pillow to a row of probabilities."""
    session = ort.InferenceSession(network)

    def classify(photo):
        (logits,) = session.run(None, {"pixel_values": np.asarray(prepare(photo), np.float32)})
        scores = np.exp(logits[0] - logits[0].max())
        return scores / scores.sum()

    return classify


def timm(folder, **cfg):
    package = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_model_data_config
    from timm.models._hub import save_config_for_hf

    model = package.create_model("test_resnet", num_classes=len(NAMES))
    cfg = {"input_size": (3, 224, 224), "mean": MEAN, "std": STD, **cfg}
    model.pretrained_cfg.update(cfg)
    model.pretrained_cfg.pop("test_input_size", None)
    transform = create_transform(**resolve_model_data_config(model))
    save_config_for_hf(model, folder / "config.json", {"label_names": NAMES})
    network = trained_network(MEAN, STD)
    (folder / "model.onnx").write_bytes(network)
    return classifier(network, lambda photo: transform(photo)[None])


def hugging_face(folder, kind, **options):
    package = pytest.importorskip("transformers")
    processor = getattr(package, f"{kind}ImageProcessor")(**options)
    processor.save_pretrained(folder)
    config = {"model_type": "x", "id2label": dict(enumerate(NAMES))}
    (folder / "config.json").write_text(json.dumps(config))
    network = trained_network(processor.image_mean, processor.image_std)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(network)
    return classifier(network, lambda one: processor(one, return_tensors="np")["pixel_values"])


def ultralytics(folder):
    pytest.importorskip("ultralytics")
    from ultralytics.data.augment import classify_transforms

    transform = classify_transforms(224)
    metadata = {"author": "Ultralytics", "task": "classify", "imgsz": "[224, 224]"}
    metadata["names"] = str(dict(enumerate(NAMES)))
    network = trained_network((0, 0, 0), (1, 1, 1), metadata)
    (folder / "best.onnx").write_bytes(network)
    return classifier(network, lambda photo: transform(photo)[None])


SQUARE = {"height": 224, "width": 224}
PIPELINES = {
    "timm, bilinear, crop 0.875": lambda f: timm(f, crop_pct=0.875, interpolation="bilinear"),
    "timm, bicubic, crop 0.95": lambda f: timm(f, crop_pct=0.95, interpolation="bicubic"),
    "timm, bicubic, squash": lambda f: timm(
        f, crop_pct=1.0, crop_mode="squash", interpolation="bicubic"
    ),
    "Hugging Face, ViT": lambda f: hugging_face(f, "ViT"),
    "Hugging Face, ConvNeXt": lambda f: hugging_face(f, "ConvNext", size={"shortest_edge": 224}),
    "Hugging Face, DINOv2": lambda f: hugging_face(
        f, "Bit", size={"shortest_edge": 256}, crop_size=SQUARE
    ),
    "Hugging Face, CLIP": lambda f: hugging_face(f, "CLIP"),
    "Hugging Face, SigLIP": lambda f: hugging_face(f, "Siglip"),
    "Hugging Face, LeViT": lambda f: hugging_face(f, "Levit"),
    "Hugging Face, MobileNetV2": lambda f: hugging_face(f, "MobileNetV2"),
    "Ultralytics": ultralytics,
}
