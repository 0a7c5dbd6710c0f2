# SPDX-License-Identifier: Apache-2.0
"""Tell what a model file is from its bytes; ``foreign.py`` says why most cannot be imported."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Literal

from perception_node.engines.importing.files.archive import open_archive
from perception_node.engines.importing.files.foreign import describe, describe_archive
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

Format = Literal["TorchScript", "torch.export", "Keras", "ONNX"]

ZIP = b"PK\x03\x04"
KERAS = {"config.json", "model.weights.h5"}
MAX_PICKLE_BYTES = 1 << 22
PROGRAMS = ("/models/model.json", "serialized_exported_program.json")  # new ones, and old


def recognise(path: Path, content: bytes) -> Format:
    """Return the format of a model file; a file that begins like nothing known may be ONNX.

    Raises:
        ConversionError: it is empty, or a kind of file that cannot be imported.

    """
    if not content:
        raise ConversionError(path, "the file is empty")
    if content.startswith(ZIP):
        return _recognise_archive(path, content)
    if problem := describe(path, content):
        raise ConversionError(path, f"this is {problem}")
    return "ONNX"


def _recognise_archive(path: Path, content: bytes) -> Format:
    try:
        with open_archive(content) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                return "TorchScript"
            if any(name.endswith(PROGRAMS) for name in names):
                return "torch.export"
            if {*names} >= KERAS:
                return "Keras"
            problem = describe_archive(path, names, _read_pickle(archive))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise ConversionError(path, f"a damaged zip archive: {error}") from error
    if problem:
        raise ConversionError(path, f"this is {problem}")
    raise ConversionError(path, "a zip archive that holds no model that can be imported")


def _read_pickle(archive: zipfile.ZipFile) -> bytes:
    """Return the beginning of what ``torch.save`` has pickled: it names classes; never run."""
    for info in archive.infolist():
        if info.filename.endswith("/data.pkl"):
            with archive.open(info) as file:
                return file.read(MAX_PICKLE_BYTES)
    return b""
