# SPDX-License-Identifier: Apache-2.0
"""Read the files in which an ONNX model keeps its weights: ``model.onnx.data`` and the like.

The model names them, and is not to be trusted: they lie in its own folder or below, and are
regular files, as in ``source.py``.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from perception_node.engines.importing.files.source import is_inside
from perception_node.errors import ConversionError, quote
from perception_node.model.onnx_file import look_for_files
from perception_node.printable import is_printable
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.model.onnx_tensor import Span

MAX_NAMED = 5
MAX_FILES = 10_000


def read_external_data(path: Path, content: bytes, limit_bytes: int) -> dict[str, bytes]:
    """Return the files that an ONNX model needs, by the names that it calls them.

    Args:
        path: of the model.
        content: of it.
        limit_bytes: of all files together.

    Raises:
        DamagedOnnx, RefusedOnnx: it is no ONNX, or refused as such.
        ConversionError: a file is missing, too short, too large, or lies elsewhere.

    """
    ends = _ends(look_for_files(content).spans)
    if len(ends) > MAX_FILES:
        raise ConversionError(path, f"its weights lie in more than {MAX_FILES} files")
    if sum(ends.values()) > limit_bytes:
        problem = (
            f"its weights take {sum(ends.values())} bytes, more than the {limit_bytes} that the "
            "model of a bundle can have; export it in half precision: model.half()"
        )
        raise ConversionError(path, problem)
    folder = path.parent
    for name in ends:
        _check_name(path, name)
    missing = [name for name in ends if not os.path.lexists(folder / name)]
    if missing:
        raise ConversionError(path, _describe_missing(missing, folder))
    found: dict[str, bytes] = {}
    for name, end in ends.items():
        _check_links(path, name)
        found[name] = _read(path, name, limit_bytes - sum(map(len, found.values())))
        if len(found[name]) < end:
            problem = (
                f"its weights in {name} end at byte {end}, the file has {len(found[name])}: it "
                "was cut off, or belongs to another model; copy it again"
            )
            raise ConversionError(path, problem)
    return found


def _ends(spans: Iterable[Span]) -> dict[str, int]:
    """Return how long each file must be, by its name."""
    ends: dict[str, int] = {}
    for span in spans:
        ends[span.location] = max(ends.get(span.location, 0), span.offset + span.length)
    return ends


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not is_printable(name) or "\\" in name or ":" in name:
        raise ConversionError(path, f"its weights lie in {quote(name)}, no name of a file")
    if name.startswith("/") or ".." in parts:
        problem = (
            f"its weights lie in {quote(name)}, outside of its folder; "
            "save the model in one file: onnx.save"
        )
        raise ConversionError(path, problem)


def _describe_missing(missing: list[str], folder: Path) -> str:
    names = ", ".join(missing[:MAX_NAMED])
    more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
    return (
        f"its weights lie in {names}{more}, not found in the folder {folder}; copy them there, "
        "under the same name"
    )


def _check_links(path: Path, name: str) -> None:
    """Refuse a link out of the folder: it may lead anywhere."""
    folder = Path(os.path.realpath(path.parent))
    is_link = Path(os.path.realpath(folder / name)) != Path(os.path.normpath(folder / name))
    if is_link and not is_inside(folder / name, folder):
        advice = "put the file itself there: cp -L"
        problem = f"its weights lie in {name}, a link out of its folder; {advice}"
        raise ConversionError(path, problem)


def _read(path: Path, name: str, limit_bytes: int) -> bytes:
    try:
        return read_regular_file(path.parent / name, limit_bytes)
    except OSError as error:
        problem = f"its weights lie in {name}, which cannot be read: {error.strerror or error}"
        raise ConversionError(path, problem) from error
