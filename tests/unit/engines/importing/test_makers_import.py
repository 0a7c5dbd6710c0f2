# SPDX-License-Identifier: Apache-2.0
"""Models as makers export them become bundles without a flag, with the right scores."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import helper

from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.settings import Wishes
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import ConversionError, LabelMismatch
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import SIDE, color_network
from tests.import_builders import script, small_module

NAMES = ("red", "green", "blue")
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
CONFIG = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "id2label": {"0": "red", "1": "green", "2": "blue"},
}
ULTRALYTICS = {
    "author": "Ultralytics",
    "license": "AGPL-3.0 License",
    "task": "classify",
    "stride": "1",
    "imgsz": f"[{SIDE}, {SIDE}]",
    "names": "{0: 'red', 1: 'green', 2: 'blue'}",
}
FOLDER = {
    "config.json": json.dumps(CONFIG).encode(),
    "preprocessor_config.json": json.dumps(PROCESSOR).encode(),
    "onnx/model.onnx": color_network(batch="n"),
}


def with_metadata(content, metadata):
    model = onnx.load_model_from_string(content)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def bring(tmp_path, in_this_process):
    """Import a path without a flag, or with wishes; return the result."""

    def run(path, **wishes):
        return import_model(Order(path, tmp_path / "bundle", Wishes(**wishes)))

    return run


def best_of(folder, color):
    """Return the label and the score of a picture in one colour (R, G, B)."""
    picture = np.zeros((40, 30, 3), np.uint8)
    picture[:] = color[::-1]
    bundle = load_bundle(folder)
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        (best,) = pipeline.run(Frame.from_bgr(picture), top_k=1, threshold=0.0).hypotheses
    return best.label, best.score


def softmax(logits):
    scores = np.exp(logits)
    return scores / scores.sum()


def test_a_folder_of_hugging_face_needs_no_flag(tmp_path, bring):
    imported = bring(lay(tmp_path / "vit", FOLDER))
    assert imported.labels == NAMES
    assert imported.choices["mean"].source == "preprocessor_config.json: ViTImageProcessor"
    assert imported.choices["labels"].source == "config.json"
    label, score = best_of(tmp_path / "bundle", (255, 0, 0))
    assert label == "red"
    assert score == pytest.approx(softmax(12.0 * np.array([1.0, -1.0, -1.0]))[0], abs=1e-4)


def test_an_archive_of_it_is_the_same(tmp_path, bring):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in FOLDER.items():
            file.writestr(f"vit/{name}", content)
    (tmp_path / "vit.zip").write_bytes(buffer.getvalue())
    assert bring(tmp_path / "vit.zip").labels == NAMES
    assert best_of(tmp_path / "bundle", (0, 0, 255))[0] == "blue"


def test_several_labels_at_once_are_known_from_the_config(tmp_path, bring):
    config = {**CONFIG, "problem_type": "multi_label_classification"}
    folder = lay(tmp_path / "vit", FOLDER | {"config.json": json.dumps(config).encode()})
    imported = bring(folder)
    assert imported.manifest.output.kind == "sigmoid-logits"
    assert imported.choices["output"].source == "config.json"


def test_ultralytics_needs_no_flag(tmp_path, bring):
    model = with_metadata(color_network(softmax=True), ULTRALYTICS)
    imported = bring(lay(tmp_path / "runs", {"weights/best.onnx": model, "args.yaml": b"a: 1"}))
    assert imported.labels == NAMES
    assert imported.manifest.license == "AGPL-3.0-only"
    preprocessing = imported.manifest.preprocessing
    assert (preprocessing.resize, preprocessing.shorter_side) == ("shorter-side", SIDE)
    assert imported.manifest.output.kind == "probabilities"
    label, score = best_of(tmp_path / "bundle", (0, 255, 0))
    assert label == "green"
    assert score == pytest.approx(softmax(12.0 * np.array([0.0, 1.0, 0.0]))[1], abs=1e-4)


def test_a_detector_is_refused_by_its_task_before_its_shapes_are_looked_at(tmp_path, bring):
    detector = with_metadata(color_network(shape=(1, 7, 4, 4)), ULTRALYTICS | {"task": "detect"})
    path = lay(tmp_path, {"best.onnx": detector}) / "best.onnx"
    with pytest.raises(ConversionError, match="says task 'detect': only classifiers"):
        bring(path)


def test_torchscript_of_ultralytics_says_the_same_in_config_txt(tmp_path, bring):
    names = {"0": "red", "1": "green", "2": "blue"}
    config = json.dumps({**ULTRALYTICS, "imgsz": [8, 8], "names": names})
    path = tmp_path / "best.torchscript"
    path.write_bytes(script(small_module(labels=None), {"config.txt": config}))
    imported = bring(path)
    assert imported.labels == NAMES
    assert imported.choices["size"].source == "extra/config.txt: Ultralytics"
    assert imported.manifest.preprocessing.shorter_side == 8


def test_the_user_goes_before_the_maker(tmp_path, bring):
    imported = bring(lay(tmp_path / "vit", FOLDER), mean=(0.1, 0.2, 0.3), labels=("a", "b", "c"))
    assert imported.labels == ("a", "b", "c")
    assert imported.manifest.preprocessing.mean == (0.1, 0.2, 0.3)
    assert imported.choices["mean"].source == "given"
    assert imported.manifest.preprocessing.std == (0.5, 0.5, 0.5)


def test_the_network_goes_before_the_file_where_its_size_is_fixed(tmp_path, bring):
    size = {"size": {"height": 2 * SIDE, "width": 2 * SIDE}}
    files = FOLDER | {"preprocessor_config.json": json.dumps(PROCESSOR | size).encode()}
    imported = bring(lay(tmp_path / "vit", files))
    assert imported.manifest.input.height == SIDE
    assert f"says {2 * SIDE}x{2 * SIDE}" in imported.choices["size"].source


def test_what_is_not_ours_yet_is_named_with_the_flag_that_answers(tmp_path, bring):
    files = FOLDER | {"preprocessor_config.json": json.dumps(PROCESSOR | {"resample": 1}).encode()}
    folder = lay(tmp_path / "vit", files)
    with pytest.raises(ConversionError, match=r"lanczos.*--interpolation"):
        bring(folder)
    assert not (tmp_path / "bundle").exists()
    assert bring(folder, interpolation="bicubic").choices["interpolation"].source == "given"


def test_a_file_of_names_beside_the_model_must_have_one_for_each_class(tmp_path, bring):
    known = {"size": None, "color": "RGB", "resize": "stretch", "preset": "tf"}
    folder = lay(tmp_path / "tm", {"model.onnx": color_network(), "labels.txt": b"0 red\n1 green"})
    with pytest.raises(LabelMismatch):
        bring(folder, **known)
    (folder / "labels.txt").write_bytes(b"0 red\n1 green\n2 blue\n")
    imported = bring(folder, **known)
    assert imported.labels == NAMES
    assert imported.choices["labels"].source == "labels.txt"
