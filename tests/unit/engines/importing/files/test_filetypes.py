# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.engines.importing.files.filetypes import recognise
from perception_node.errors import ConversionError
from tests.builders import color_network
from tests.import_builders import script, small_module, torch


def archive(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return buffer.getvalue()


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.zeros(3))
    return buffer.getvalue()


def plan_of_ultralytics():
    metadata = json.dumps({"task": "classify"}).encode()
    return len(metadata).to_bytes(4, "little") + metadata + b"ftrt" + bytes(40)


def pickled(*classes):
    """Return the archive of ``torch.save`` as far as it matters: a pickle that names classes."""
    pickle = b"\x80\x02" + b"".join(f"c{name}\n".encode() for name in classes)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("best/data.pkl", pickle)
        file.writestr("best/data/0", bytes(8))
    return buffer.getvalue()


# Name of the file, its content, what is said of it.
REFUSED = {
    "empty": ("m", b"", "the file is empty"),
    "pickle": ("m.pt", b"\x80\x04\x95abc", "this is weights without a network; load them"),
    "plan": ("m.engine", b"ftrt" + bytes(40), "this is a TensorRT plan"),
    "plan of RTX": ("m", b"vtrt" + bytes(40), "this is a TensorRT plan"),
    "plan of Ultralytics": ("m.engine", plan_of_ultralytics(), "this is a TensorRT plan.*yolo"),
    "Keras, old": ("m.h5", b"\x89HDF\r\n\x1a\n", r"keras.models.load_model\('m.h5'\).export"),
    "Keras, weights": ("m.keras", archive("model.weights.h5"), "this is a Keras model"),
    "TensorFlow Lite": ("m.tflite", b"\x1c\0\0\0TFL3", "--opset 17 --tflite m.tflite"),
    "TensorFlow": ("frozen.pb", b"\x0a\x05", "--graphdef frozen.pb"),
    "gzip": ("m.gz", b"\x1f\x8b\x08", "compressed with gzip"),
    "tar": ("m.tar", bytes(257) + b"ustar", "a tar archive; unpack it first: tar -xf m.tar"),
    "safetensors": ("m", safetensors(), "this is a safetensors file: weights without a network"),
    "NumPy": ("m.npz", arrays(), "this is a NumPy archive"),
    "AOTInductor": (
        "m.pt2",
        archive("m/archive_format", "m/data/aotinductor/model/m.so"),
        r"machine code of AOTInductor.*: torch\.export\.save\(program, 'model\.pt2'\)",
    ),
    "weights": ("m.pt", archive("m/data.pkl", "m/data/0"), "this is weights without a network"),
    "Ultralytics": (
        "my best.pt",
        pickled("ultralytics.nn.tasks\nClassificationModel"),
        "yolo export model='my best.pt' format=onnx",
    ),
    "detector": ("m.pt", pickled("ultralytics.nn.tasks\nDetectionModel"), "no classifier"),
    "YOLOv5": (
        "m.pt",
        pickled("models.yolo\nClassificationModel"),
        "python export.py --weights m",
    ),
    "network": ("m.pth", pickled("torch.nn.modules.linear\nLinear"), "a pickled network"),
    "Lightning": ("m.ckpt", b"\x80\x02pytorch-lightning_version", r"checkpoint\('m.ckpt'\)"),
    "fastai": ("export.pkl", b"\x80\x02cfastai.learner\nLearner", "a learner of fastai"),
    "TorchServe": ("m.mar", archive("MAR-INF/MANIFEST.json", "m.pt"), "an archive of TorchServe"),
    "Paddle": ("inference.pdmodel", b"\x0a\x02", "--model_filename inference.pdmodel"),
    "Paddle, new": ("inference.json", b'{"base_code": {}}', "--model_filename inference.json"),
    "Paddle, weights": ("a.pdiparams", b"\0\0", "--params_filename a.pdiparams"),
    "OpenVINO": ("m.xml", b'<?xml version="1.0"?><net>', "perhaps OpenVINO's"),
    "OpenVINO, weights": ("m.bin", b"\0\1", "weights, perhaps OpenVINO's"),
    "Core ML": ("m.mlmodel", b"\x08\x04", "a Core ML model"),
    "ncnn": ("m.param", b"7767517\n75 83\n", "a network for ncnn"),
    "Rockchip": ("m.rknn", b"RKNN\0", "Rockchip's NPU"),
    "TensorFlow.js": ("model.json", b'{"modelTopology": {}}', "a model of TensorFlow.js"),
    "JSON": ("config.json", b'{"a": 1}', "this is JSON, no network"),
    "Git LFS": ("m.onnx", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "web page": ("m.onnx", b"\n<!DOCTYPE html><html>", "a web page, no model"),
    "TAO": ("m.etlt", b"\x99", "an encrypted model of NVIDIA TAO"),
    "image": ("m.jpg", b"\xff\xd8\xff\xe0", "a JPEG image"),
    "external data": ("model.onnx.data", bytes(90), "import the .onnx file beside it"),
    "other archive": ("m.zip", archive("a.txt"), "holds no model"),
    "damaged archive": ("m.zip", archive("a.txt")[:40], "a damaged zip archive"),
}


@pytest.mark.parametrize(("name", "content", "words"), REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused_with_the_reason(tmp_path, name, content, words):
    with pytest.raises(ConversionError, match=words) as caught:
        recognise(tmp_path / name, content)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_what_torch_save_writes_is_refused_and_says_what_to_do(tmp_path):
    for new in (True, False):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch().save({"w": torch().zeros(3)}, buffer, _use_new_zipfile_serialization=new)
        with pytest.raises(ConversionError, match=r"torch\.onnx\.export\(model\.eval\(\), "):
            recognise(tmp_path / "weights.pt", buffer.getvalue())


def test_torchscript_is_recognised(tmp_path):
    assert recognise(tmp_path / "any", script(small_module())) == "TorchScript"


@pytest.mark.parametrize("content", [color_network(), b"\x08\x07", b"{" * 100, bytes(9)])
def test_everything_else_may_be_onnx(tmp_path, content):
    assert recognise(tmp_path / "model", content) == "ONNX"


@given(
    begin=st.sampled_from(
        [b"", b"\x80", b"{", b"<", b"\x08", b"\x0a", b"PK\x03\x04", b"\x10\0\0\0{"]
    ),
    rest=st.binary(max_size=80),
    name=st.sampled_from(["m", "m.pt", "m.bin", "m.pb", "m.h5", "a {file} b.pdiparams", "m.xml"]),
)
def test_any_bytes_are_a_format_or_one_line(begin, rest, name):
    try:
        assert recognise(Path(name), begin + rest) == "ONNX"
    except ConversionError as error:
        assert "\n" not in str(error)
