# SPDX-License-Identifier: Apache-2.0
"""Kinds of model files that cannot be imported: what each is, and its maker's way to ONNX.

``{file}`` stands for the file's name as a shell takes it, ``{quoted}`` as Python does,
``{folder}`` for the folder it lies in.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def export(network: str) -> str:
    """Return PyTorch's call that exports a network."""
    return f"torch.onnx.export({network}.eval(), (torch.zeros(1, 3, 224, 224),), 'model.onnx')"


FROM_TORCH = f"load them into their network and export that: {export('model')}"
FROM_PICKLE = "where it was made, export it: " + export("torch.load({quoted}, weights_only=False)")
FROM_LIGHTNING = (
    "export it: MyModule.load_from_checkpoint({quoted})"
    ".to_onnx('model.onnx', torch.zeros(1, 3, 224, 224))"
)
FROM_YOLO = "export it: yolo export model={file} format=onnx"
FROM_YOLO_V5 = "export it in its own folder: python export.py --weights {file} --include onnx"
FROM_KERAS = "export it: keras.models.load_model({quoted}).export('model.onnx', format='onnx')"
TF2ONNX = "export it: python -m tf2onnx.convert --output model.onnx --opset 17"
FROM_TFLITE = f"{TF2ONNX} --tflite {{file}}"
FROM_SAVED_MODEL = f"{TF2ONNX} --saved-model {{file}}"
FROM_GRAPH = f"{TF2ONNX} --graphdef {{file}} --inputs NAME:0 --outputs NAME:0"
PADDLE2ONNX = "export it: paddle2onnx --save_file model.onnx --opset_version 17 --model_dir ."
FROM_PADDLE = f"{PADDLE2ONNX} --model_filename {{file}} --params_filename inference.pdiparams"
FROM_PADDLE_WEIGHTS = (
    f"{PADDLE2ONNX} --model_filename inference.pdmodel --params_filename {{file}}"
)
SAVE_IT = "save the program it was made of: torch.export.save(program, 'model.pt2')"
FROM_LFS = "download it: git lfs pull"
OPTIMUM = "export it: optimum-cli export onnx --task image-classification --model"
ORIGINAL = "import the ONNX it was made from"
PLAN = f"a TensorRT plan, which fits one GPU only; {ORIGINAL}"
UNPACK = "unpack it first"
PAGE = "a web page, no model: the download went wrong; repeat it, logged in if it asks for that"
SAFETENSORS = (
    f"a safetensors file: weights without a network; {FROM_TORCH}; "
    f"of a Hugging Face folder: {OPTIMUM} {{folder}} onnx"
)
PICKLE, ONNX = b"\x80", b"\x08"  # the first byte of a pickle and of most ONNX files
LIKE_ONNX = {".mlmodel"}  # begins with the same byte

# Where the bytes are, what they are, what kind of file that is and what to do.
MAGIC = (
    (0, b"version https://git-lfs", f"a pointer of Git LFS, not the file; {FROM_LFS}"),
    (0, b"ftrt", PLAN),
    (0, b"ptrt", PLAN),
    (0, b"vtrt", PLAN),
    (0, b"\x89HDF", f"an HDF5 file, as Keras writes; {FROM_KERAS}"),
    (4, b"TFL3", f"a TensorFlow Lite model; {FROM_TFLITE}"),
    (4, b"ORTM", f"ONNX Runtime's own format; {ORIGINAL}"),
    (4, b"ET12", f"an ExecuTorch program; {ORIGINAL}, or export its network with torch.onnx"),
    (0, b"RKNN", f"a model for Rockchip's NPU; {ORIGINAL}"),
    (0, b"\x01HEF", f"a model for Hailo's accelerators; {ORIGINAL}"),
    (0, b"GGUF", "a language model in GGUF, no classifier"),
    (0, b"7767517", f"a network for ncnn; {ORIGINAL}"),
    (0, b"\x1f\x8b", f"compressed with gzip; {UNPACK}"),
    (0, b"\xfd7zXZ", f"compressed with xz; {UNPACK}"),
    (0, b"BZh", f"compressed with bzip2; {UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"compressed with zstd; {UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {UNPACK}"),
    (0, b"Rar!", f"a RAR archive; {UNPACK}"),
    (257, b"ustar", f"a tar archive; {UNPACK}: tar -xf {{file}}"),
    (0, b"\x93NUMPY", "a NumPy array, no network"),
    (0, b"\xff\xd8\xff", "a JPEG image, no network"),
    (0, b"\x89PNG", "a PNG image, no network"),
    (0, b"%PDF", "a PDF document, no network"),
    (0, b"\x7fELF", "a program or a library, no network"),
)
# What text files begin with, without spaces and in small letters.
TEXTS = (
    (b"<!doctype", PAGE),
    (b"<html", PAGE),
    (b"<?xml", f"XML, perhaps OpenVINO's; {ORIGINAL}"),
    (b"<net", f"a network for OpenVINO; {ORIGINAL}"),
    (b"[net]", "a network of Darknet; export it with a converter from Darknet to ONNX"),
)
# Formats that have no magic number, by the end of the name.
ENDINGS = {
    ".pdmodel": f"a model of PaddlePaddle; {FROM_PADDLE}",
    ".pdiparams": f"weights of PaddlePaddle, without a network; {FROM_PADDLE_WEIGHTS}",
    ".pdparams": "weights of PaddlePaddle, without a network; export both to inference.pdmodel",
    ".mlmodel": f"a Core ML model; {ORIGINAL}",
    ".caffemodel": "weights of Caffe; convert them with their .prototxt to ONNX",
    ".prototxt": "a network of Caffe, without weights; convert both to ONNX",
    ".mindir": f"a model of MindSpore; {ORIGINAL}, or export it with file_format='ONNX'",
    ".mnn": f"a model for MNN; {ORIGINAL}",
    ".weights": "weights of Darknet; export them with a converter from Darknet to ONNX",
    ".bin": f"weights, perhaps OpenVINO's or ncnn's, without a network; {ORIGINAL}",
    ".param": f"a network for ncnn; {ORIGINAL}",
    ".data": "the weights of an ONNX model; import the .onnx file beside it",
    ".etlt": "an encrypted model of NVIDIA TAO; export it with TAO 5 or later, which writes ONNX",
    ".tlt": "a checkpoint of NVIDIA TAO; export it to ONNX: tao model NAME export",
    ".hdf5": f"a Keras model; {FROM_KERAS}",
    ".pb": f"a graph of TensorFlow; {FROM_GRAPH}",
}
# Classes that a pickle names, and whose file that is.
PICKLES = (
    (b"ultralytics.nn.tasks\nDetectionModel", "an Ultralytics detector, no classifier"),
    (b"ultralytics.nn.tasks\nOBBModel", "an Ultralytics detector, no classifier"),
    (b"ultralytics.nn.tasks\nPoseModel", "an Ultralytics network for poses, no classifier"),
    (b"ultralytics.nn.tasks\nSegmentationModel", "an Ultralytics network that segments"),
    (b"ultralytics", f"a checkpoint of Ultralytics; {FROM_YOLO}"),
    (b"models.yolo", f"a checkpoint of YOLOv5; {FROM_YOLO_V5}"),
    (b"fastai", f"a learner of fastai; load it and export its network: {export('learn.model')}"),
    (b"pytorch-lightning_version", f"a checkpoint of Lightning; {FROM_LIGHTNING}"),
    (b"torch.nn.modules", f"a pickled network of PyTorch, which can run any code; {FROM_PICKLE}"),
    (b"sklearn", "a pickle of scikit-learn, no network for images"),
)
WEIGHTS = f"weights without a network; {FROM_TORCH}"
# Names inside a zip archive, and the same.
ARCHIVES = (
    ("/archive_format", f"machine code of AOTInductor, which fits one machine only; {SAVE_IT}"),
    ("model.weights.h5", f"a Keras model; {FROM_KERAS}"),
    ("MAR-INF/MANIFEST.json", f"an archive of TorchServe; {UNPACK} and import the model inside"),
    ("saved_model.pb", f"an archive of a TensorFlow SavedModel; {UNPACK}, then import its folder"),
    (".mlmodel", f"an archive of a Core ML model; {ORIGINAL}"),
    ("keras_model.h5", f"an archive of a Keras model; {UNPACK}, then import its folder"),
    (".tflite", f"an archive of a TensorFlow Lite model; {UNPACK}, then import its folder"),
    (".npy", "a NumPy archive: it holds arrays, but no network"),
)
# Files in a folder that holds no model of ours, the most telling first.
FOLDERS = (
    ("saved_model.pb", f"a SavedModel of TensorFlow; {FROM_SAVED_MODEL}"),
    ("Manifest.json", f"a Core ML package; {ORIGINAL}"),
    ("model.safetensors", f"a folder of weights without an ONNX file; {OPTIMUM} {{file}} onnx"),
    ("pytorch_model.bin", f"a folder of weights without an ONNX file; {OPTIMUM} {{file}} onnx"),
)


# Keys of JSON, and whose file that is.
JSON_KEYS = (
    ("modelTopology", f"a model of TensorFlow.js; {ORIGINAL}, or export the original"),
    ("base_code", f"a model of PaddlePaddle; {FROM_PADDLE}"),
    ("arg_nodes", "a network of MXNet, without weights; export both to ONNX with mxnet.onnx"),
)
MAX_JSON_BYTES = 1 << 24


def describe(path: Path, content: bytes) -> str:
    """Say what a file is that is neither a zip archive nor ONNX, and what to do; "" else."""
    found = (
        _by_magic(content)
        or _with_json_in_front(content)
        or _by_json(content)
        or _by_classes(content) * content.startswith(PICKLE)
        or _by_ending(path, content)
    )
    return fill_in(path, found)


def describe_archive(path: Path, names: Iterable[str], pickle: bytes) -> str:
    """Say the same of a zip archive by the names in it, and by the classes its pickle names."""
    names = list(names)
    for ending, found in ARCHIVES:
        if any(name.endswith(ending) for name in names):
            return fill_in(path, found)
    return fill_in(path, _by_classes(pickle)) if pickle else ""


def describe_folder(path: Path, names: Iterable[str]) -> str:
    """Say the same of a folder by the names in it."""
    names = set(names)
    return next((fill_in(path, found) for name, found in FOLDERS if name in names), "")


def fill_in(path: Path, text: str) -> str:
    """Put the file's name into a command."""
    name = path.name or str(path)
    return (
        text.replace("{folder}", shlex.quote(str(path.parent)))
        .replace("{file}", shlex.quote(name))
        .replace("{quoted}", repr(name))
    )


def _by_magic(content: bytes) -> str:
    for offset, magic, found in MAGIC:
        if content[offset : offset + len(magic)] == magic:
            return found
    beginning = content[:100].lstrip().lower()
    return next((found for text, found in TEXTS if beginning.startswith(text)), "")


def _with_json_in_front(content: bytes) -> str:
    """Recognise a length and JSON: safetensors, or a plan as Ultralytics writes it."""
    length = int.from_bytes(content[:8], "little")
    if _is_json_object(content[8 : 8 + length], length):
        return SAFETENSORS
    length = int.from_bytes(content[:4], "little", signed=True)
    if _is_json_object(content[4 : 4 + max(length, 0)], length):
        return f"{PLAN}: yolo export model=BEST.pt format=onnx"
    return ""


def _is_json_object(text: bytes, length: int) -> bool:
    """Return whether a text is whole and begins and ends like an object; it is not parsed."""
    is_whole = 2 <= length == len(text)
    return is_whole and text[:1] == b"{" and text[1:2] in b'" }' and text[-1:] in {b"}", b" "}


def _by_json(content: bytes) -> str:
    if content[:1] != b"{" or len(content) > MAX_JSON_BYTES:
        return ""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    return next((found for key, found in JSON_KEYS if key in data), "JSON, no network")


def _by_classes(pickle: bytes) -> str:
    """Say whose pickle it is by the classes that it names; it is not read otherwise."""
    return next((found for name, found in PICKLES if name in pickle), WEIGHTS)


def _by_ending(path: Path, content: bytes) -> str:
    """Go by the name where the bytes say nothing, and are not how ONNX begins."""
    ending = path.suffix.lower()
    is_onnx = content.startswith(ONNX) and ending not in LIKE_ONNX
    return "" if is_onnx else ENDINGS.get(ending, "")
