# SPDX-License-Identifier: Apache-2.0
"""Find the model that is meant, in a file, a folder or a zip archive of one, and what lies beside.

Of a folder only regular files count, and no link out of it: who sends a folder must not make us
read other files of this machine into a bundle. The cache of Hugging Face's hub is all links, into
its own ``blobs``.
"""

from __future__ import annotations

import io
import re
import shutil
import stat
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from perception_node.engines.importing.files.archive import DAMAGE, ENTRY_SIGNATURE, MAX_ENTRIES
from perception_node.engines.importing.files.foreign import describe_folder
from perception_node.engines.importing.makers import FILES
from perception_node.engines.importing.makers.label_files import NAMES as LABEL_FILES
from perception_node.errors import ConfigError, ConversionError, PerceptionError, quote
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator

ONNX = ".onnx"
OTHERS = (".torchscript", ".pt2", ".keras", ".pt", ".pth")  # where there is no ONNX
# What is refused with its reason, where there is neither.
REFUSED = (
    *(".engine", ".plan", ".trt", ".tflite", ".h5", ".hdf5", ".pdmodel", ".pdiparams", ".pb"),
    *(".safetensors", ".ckpt", ".pkl", ".mlmodel", ".xml", ".param", ".rknn", ".etlt", ".tlt"),
    *(".caffemodel", ".mindir", ".mnn", ".weights", ".ort", ".pte", ".hef"),
)
# Where makers put the model in a folder, the best place first.
PLACES = ("", "onnx", "weights")
PREFERRED = ("model", "best", "inference")  # stems, where there are several
# What the names of several forms of one model end with: model_fp16.onnx, model_q4f16.onnx.
FORM = re.compile(
    r"[_.-](fp32|fp16|bf16|u?int8|q4|q8|q4f16|bnb4|quantized|quant|sim|simplified|optimized)$"
)
MAX_SIDECAR_BYTES = 4 << 20
MAX_LISTED = 1000  # files of a folder that are looked at
MAX_NAMED = 8
MAX_UNPACKED_BYTES = 4 << 30
MAX_RATIO = 1032  # what deflate can reach
ZIP, ENCRYPTED = b"PK\x03\x04", 0x1
# Names in archives that are models themselves: TorchScript, torch.export, torch.save, Keras.
INSIDE_A_MODEL = {"constants.pkl", "archive_format", "data.pkl", "model.weights.h5"}
INSIDE_A_MODEL |= {"serialized_exported_program.json"}  # before there was archive_format


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model is, and what lies beside it.

    Attributes:
        model: the file.
        sidecars: content of small files that say more about it, by name.

    """

    model: Path
    sidecars: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Find the model in ``path``; an archive of a folder is unpacked until the end.

    Raises:
        ConversionError: there is no model, or there are several; the archive is damaged or holds
            what no folder of a model does.
        ConfigError: the folder for temporary files cannot be written.

    """
    if path.is_dir():
        yield find_model(path)
    elif _is_archive_of_folder(path):
        with tempfile.TemporaryDirectory(prefix="perception-unpacked-") as name:
            folder = Path(name).resolve()
            with _named(folder, path):
                unpack(path, folder)
                yield find_model(folder)
    else:
        yield Source(path, _read_sidecars(path))


def find_model(folder: Path) -> Source:
    """Return the model in a folder, and what lies beside it.

    Raises:
        ConversionError: there is none that can be imported, or there are several.

    """
    try:
        folder = _enter_only_folder(folder)
        for endings in ((ONNX,), OTHERS):
            if found := _find(folder, endings):
                model = _choose(folder, found)
                return Source(model, _read_sidecars(model))
        if problem := describe_folder(folder, [entry.name for entry in _files(folder)]):
            raise ConversionError(folder, f"this is {problem}")
        if found := _find(folder, REFUSED):
            return Source(found[0])
    except OSError as error:
        raise ConversionError(folder, f"cannot be read: {error.strerror or error}") from error
    problem = "the folder holds no ONNX file, nor another model that can be imported"
    raise ConversionError(folder, f"{problem}; give the file itself")


def _enter_only_folder(folder: Path) -> Path:
    """Return the folder inside, where a folder holds nothing else, as archives often do."""
    for _ in range(2):
        entries = [entry for entry in sorted(folder.iterdir())[:MAX_LISTED] if _counts(entry)]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].is_symlink():
            break
        folder = entries[0]
    return folder


def _counts(entry: Path) -> bool:
    return not entry.name.startswith((".", "__MACOSX"))


def _find(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files with these endings in the first place that has some."""
    for place in PLACES:
        inside = folder / place
        if inside.is_dir() and (not place or not inside.is_symlink()):
            found = [file for file in _files(inside) if file.suffix.lower() in endings]
            if found:
                return found
    return []


def _files(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())[:MAX_LISTED]
    return [entry for entry in entries if _counts(entry) and is_inside(entry, folder)]


def is_inside(file: Path, folder: Path) -> bool:
    """Return whether it is a regular file of this folder, or of the hub's cache around it."""
    try:
        target, folder = file.resolve(), folder.resolve()
        if not stat.S_ISREG(target.stat().st_mode):
            return False
    except (OSError, RuntimeError):  # a loop of links
        return False
    if target.is_relative_to(folder):
        return True
    snapshot = next(
        (p for p in (folder, *folder.parents[:2]) if p.parent.name == "snapshots"), None
    )
    return snapshot is not None and target.parent == snapshot.parent.parent / "blobs"


def _choose(folder: Path, found: list[Path]) -> Path:
    if len(found) == 1:
        return found[0]
    for stem in PREFERRED:
        for file in found:
            if file.stem == stem and len({_without_form(other) for other in found} - {stem}) == 0:
                return file
    shown = ", ".join(str(file.relative_to(folder)) for file in found[:MAX_NAMED])
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    problem = f"the folder holds {len(found)} models: {shown}{more}"
    raise ConversionError(folder, f"{problem}; give the one that is meant: {found[0]}")


def _without_form(file: Path) -> str:
    """Return a model's name without what tells its forms apart."""
    stem, count = file.stem, 1
    while count:
        stem, count = FORM.subn("", stem)
    return stem


def _read_sidecars(model: Path) -> dict[str, bytes]:
    """Return the small files beside a model, or above it where its folder is only a place.

    Beside several models they say nothing: they may belong to another one.
    """
    folders = [model.parent]
    if model.parent.resolve().name in PLACES:
        folders.append(model.parent.resolve().parent)
    sidecars: dict[str, bytes] = {}
    for folder in folders:
        if not folder.is_dir() or not _is_alone(model, folder):
            continue
        for name in (*FILES, *LABEL_FILES):
            file = folder / name
            if name not in sidecars and is_inside(file, folder):
                sidecars[name] = _read(file)
    return sidecars


def _is_alone(model: Path, folder: Path) -> bool:
    models = [file for file in _files(folder) if file.suffix.lower() in {ONNX, *OTHERS}]
    return {_without_form(file) for file in models} <= {_without_form(model)}


def _read(file: Path) -> bytes:
    try:
        return read_regular_file(file, MAX_SIDECAR_BYTES)
    except OSError as error:
        raise ConversionError(file, f"cannot be read: {error.strerror or error}") from error


def _is_archive_of_folder(path: Path) -> bool:
    """Return whether it is a zip archive with a model in it, and not a model itself."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a FIFO would wait for ever
            return False
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                return False
        with _open(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except (OSError, *DAMAGE):
        return False  # it is recognised, and refused, as a file
    return {name.name for name in names}.isdisjoint(INSIDE_A_MODEL) and any(
        name.suffix.lower() in {ONNX, *OTHERS} for name in names
    )


def _open(path: Path) -> zipfile.ZipFile:
    """Open an archive whose directory is small enough to be read."""
    content = read_regular_file(path, MAX_UNPACKED_BYTES)
    if content.count(ENTRY_SIGNATURE) > MAX_ENTRIES:
        raise zipfile.BadZipFile(f"more than {MAX_ENTRIES} entries")
    return zipfile.ZipFile(io.BytesIO(content))


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip archive of a model's folder.

    Raises:
        ConversionError: it is damaged, or holds a link, a name that leads elsewhere, or more than
            may be unpacked.
        ConfigError: the folder cannot be written.

    """
    try:
        with _open(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _check(path, infos)
            for info in infos:
                target = folder / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as file, target.open("xb") as out:
                    shutil.copyfileobj(file, out)
    except DAMAGE as error:
        raise ConversionError(path, f"a damaged zip archive: {error}") from error
    except OSError as error:
        msg = f"{folder}: cannot be written: {error.strerror or error}; set TMPDIR"
        raise ConfigError(msg) from error


def _check(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_LISTED:
        raise ConversionError(path, f"{len(infos)} files, more than {MAX_LISTED}")
    if sum(info.file_size for info in infos) > MAX_UNPACKED_BYTES:
        raise ConversionError(path, f"it would unpack to more than {MAX_UNPACKED_BYTES} bytes")
    for info in infos:
        parts = PurePosixPath(info.filename).parts
        leads_elsewhere = ".." in parts or info.filename.startswith("/") or "\\" in info.filename
        if leads_elsewhere or not info.filename.isprintable():
            raise ConversionError(path, f"the name {quote(info.filename)} leads elsewhere")
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
            raise ConversionError(path, f"{info.filename} is a link or a device")
        if info.flag_bits & ENCRYPTED:
            raise ConversionError(path, f"{info.filename} is encrypted; unpack the archive first")
        if info.file_size > MAX_RATIO * max(info.compress_size, 1):
            problem = f"{info.filename} unpacks to more than {MAX_RATIO} times its size"
            raise ConversionError(path, problem)


@contextmanager
def _named(folder: Path, path: Path) -> Iterator[None]:
    """Name the archive in errors, in the place of the folder it was unpacked to."""
    try:
        yield
    except PerceptionError as error:
        error.args = tuple(str(part).replace(str(folder), str(path)) for part in error.args)
        error.problem = error.problem.replace(str(folder), str(path))
        raise
