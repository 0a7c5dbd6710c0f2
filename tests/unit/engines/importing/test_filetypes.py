# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import warnings
import zipfile

import numpy as np
import pytest

from perception_node.engines.importing.filetypes import recognise
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


REFUSED = {
    "empty": (b"", "the file is empty"),
    "pickle": (b"\x80\x04\x95abc", "this is a pickle: it holds weights or runs code"),
    "plan": (b"ftrt" + bytes(40), "this is a TensorRT plan"),
    "plan of RTX": (b"vtrt" + bytes(40), "this is a TensorRT plan"),
    "Keras, old": (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file"),
    "Keras": (archive("config.json", "model.weights.h5"), "this is a Keras model"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3", "this is a TensorFlow Lite model"),
    "gzip": (b"\x1f\x8b\x08", "compressed with gzip"),
    "safetensors": (safetensors(), "this is a safetensors file: weights without a network"),
    "NumPy": (arrays(), "this is a NumPy archive"),
    "AOTInductor": (
        archive("m/archive_format", "m/data/aotinductor/model/m.so"),
        r"machine code of AOTInductor.*: torch\.export\.save\(program, 'model\.pt2'\)",
    ),
    "weights": (archive("m/data.pkl", "m/data/0"), "this is weights without a network"),
    "other archive": (archive("a.txt"), "holds no model of PyTorch's"),
    "damaged archive": (archive("a.txt")[:40], "a damaged zip archive"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused_with_the_reason(tmp_path, content, words):
    with pytest.raises(ConversionError, match=words) as caught:
        recognise(tmp_path / "model", content)
    assert str(caught.value).startswith(f"{tmp_path / 'model'}: ")
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
    assert recognise(tmp_path / "model.bin", content) == "ONNX"
