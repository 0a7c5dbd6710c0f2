# SPDX-License-Identifier: Apache-2.0
"""Tell what a model file is from its first bytes, and say why most kinds cannot be imported."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Literal

from perception_node.engines.importing.archive import open_archive
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

Format = Literal["TorchScript", "torch.export", "ONNX"]

ZIP = b"PK\x03\x04"
EXPORT_IT = (
    "load them into their network and export that: "
    "torch.onnx.export(model.eval(), (torch.zeros(1, 3, 224, 224),), 'model.onnx')"
)
SAVE_IT = "save the program it was made of: torch.export.save(program, 'model.pt2')"
PROGRAMS = ("/models/model.json", "serialized_exported_program.json")  # new ones, and old
# Where the bytes are, what they are, what kind of file that is and what to do.
REFUSED = (
    (0, b"\x80", f"a pickle: it holds weights or runs code, but no network; {EXPORT_IT}"),
    (0, b"ftrt", "a TensorRT plan, which fits one GPU only; import the ONNX it was built from"),
    (0, b"ptrt", "a TensorRT plan, which fits one GPU only; import the ONNX it was built from"),
    (0, b"vtrt", "a TensorRT plan, which fits one GPU only; import the ONNX it was built from"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes; export it to ONNX with tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite model; export the original to ONNX with tf2onnx"),
    (4, b"ORTM", "ONNX Runtime's own format; import the ONNX it was made from"),
    (0, b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (0, b"<?xml", "XML, perhaps OpenVINO's; import the ONNX it was made from"),
)
# A name inside a zip archive, and the same.
REFUSED_ARCHIVES = (
    (
        "/archive_format",
        f"machine code of AOTInductor, which fits one machine only; {SAVE_IT}",
    ),
    ("model.weights.h5", "a Keras model; export it to ONNX with tf2onnx"),
    (".npy", "a NumPy archive: it holds arrays, but no network"),
    ("/data.pkl", f"weights without a network (torch.save); {EXPORT_IT}"),
)


def recognise(path: Path, content: bytes) -> Format:
    """Return the format of a model file; a file that begins like nothing known may be ONNX.

    Raises:
        ConversionError: it is empty, or a kind of file that cannot be imported.

    """
    if not content:
        raise ConversionError(path, "the file is empty")
    if content.startswith(ZIP):
        return _recognise_archive(path, content)
    for offset, magic, problem in REFUSED:
        if content[offset : offset + len(magic)] == magic:
            raise ConversionError(path, f"this is {problem}")
    if _is_safetensors(content):
        problem = f"this is a safetensors file: weights without a network; {EXPORT_IT}"
        raise ConversionError(path, problem)
    return "ONNX"


def _recognise_archive(path: Path, content: bytes) -> Format:
    try:
        with open_archive(content) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise ConversionError(path, f"a damaged zip archive: {error}") from error
    if any(name.endswith("/constants.pkl") for name in names):
        return "TorchScript"
    if any(name.endswith(PROGRAMS) for name in names):
        return "torch.export"
    for ending, problem in REFUSED_ARCHIVES:
        if any(name.endswith(ending) for name in names):
            raise ConversionError(path, f"this is {problem}")
    raise ConversionError(path, "a zip archive that holds no model of PyTorch's")


def _is_safetensors(content: bytes) -> bool:
    """Recognise the length and the JSON that a safetensors file begins with; it is not parsed."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        return False
    begin, end = content[8:11], content[8 + length - 1 : 8 + length]
    return begin[:1] == b"{" and begin[1:2] in b'" }' and end in {b"}", b" "}
