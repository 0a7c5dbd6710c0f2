# SPDX-License-Identifier: Apache-2.0
"""Which files make up a bag, and what kind of file each is, by its content."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tempfile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from perception_node.wire.bag_metadata import METADATA, read_metadata
from perception_node.wire.chunks import NothingLeft
from perception_node.wire.mcap_file import McapFile
from perception_node.wire.mcap_records import MAGIC as MCAP_MAGIC
from perception_node.wire.ros1_file import Ros1File
from perception_node.wire.ros1_records import MAGIC as ROS1_MAGIC
from perception_node.wire.ros1_records import VERSION as ROS1_VERSION
from perception_node.wire.sqlite_file import SqliteFile
from perception_node.wire.unpacking import ZSTD_MAGIC, unpack_file

if TYPE_CHECKING:
    from contextlib import ExitStack
    from typing import BinaryIO

PACKED = ".zstd"
SUFFIXES = (".mcap", ".db3", ".bag", ".bag.active")
MAX_FILES = 100_000  # in a folder
MAX_NAMED = 20  # names in an error
SQLITE_MAGIC = b"SQLite format 3\0"
MAGIC_BYTES = 16
NUMBER = re.compile(r"(_\d{4}(-\d\d){5})?_\d+$")  # of a part of a bag; ROS 1 dates each part
# A file that is packed as a whole may unpack to so many bytes, and so many per byte.
UNPACKED_BYTES, UNPACKED_PER_BYTE = 64 << 20, 100
# How what is no bag begins, what it is and the command that makes something readable of it.
OTHERS = {
    b"\x1f\x8b": ("packed by gzip", "gunzip -k {}"),
    b"BZh": ("packed by bzip2", "bunzip2 -k {}"),
    b"\xfd7zXZ\0": ("packed by xz", "unxz -k {}"),
    b"\x04\x22\x4d\x18": ("packed by lz4", "unlz4 -k {}"),
    b"PK\x03\x04": ("a zip archive", "unzip {}"),
    ROS1_MAGIC: ("a bag of an older version of ROS 1", "rosbag fix {} fixed.bag"),
}
REPAIRS = {
    MCAP_MAGIC: "mcap recover {} -o whole.mcap",
    SQLITE_MAGIC: "sqlite3 {} .recover | sqlite3 whole.db3",
    ROS1_MAGIC: "rosbags-convert --src {} --dst converted",
}
BagFile = McapFile | SqliteFile | Ros1File


def some(names: list[str]) -> str:
    """Return names on one line, the first of them where there are many."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def find_files(path: Path) -> list[Path]:
    """Return the files of a bag in their order: the one that is named, or those of the folder.

    Raises:
        ValueError, OSError, yaml.YAMLError: there are none, or they cannot be told apart.

    """
    if path.name == METADATA:
        path = path.parent
    if not path.is_dir():
        return [path]
    if os.path.lexists(path / METADATA):
        return _find_listed(path)
    held = _look_into(path)
    files = [file for file in held if file.name.removesuffix(PACKED).endswith(SUFFIXES)]
    if not files:
        inner = some(sorted(one.name for one in held if (one / METADATA).is_file()))
        advice = f"; name one of the folders in it: {inner}" if inner else ""
        raise ValueError(f"the folder holds no bag, which is a .mcap, .db3 or .bag file{advice}")
    bags = {NUMBER.sub("", PurePath(file.name.removesuffix(PACKED)).stem) for file in files}
    if len(bags) > 1:
        names = some(sorted(file.name for file in files))
        raise ValueError(f"the folder holds {len(bags)} bags; name one of these files: {names}")
    return sorted(files, key=_order)


def _find_listed(folder: Path) -> list[Path]:
    """Return the files that the metadata names; they may have been packed or unpacked since."""
    files, missing = [], []
    for listed in read_metadata(folder / METADATA):
        name = PurePath(listed).name
        names = (name, name + PACKED, name.removesuffix(PACKED))
        found = [folder / one for one in names if (folder / one).exists()]
        files += found[:1]
        missing += [] if found else [name]
    if missing:
        advice = f"name a file that is there, or run: ros2 bag reindex {shlex.quote(str(folder))}"
        raise ValueError(f"{METADATA} names what is missing: {some(missing)}; {advice}")
    return files


def _look_into(folder: Path) -> list[Path]:
    files = []
    for file in folder.iterdir():
        files.append(file)
        if len(files) > MAX_FILES:
            raise ValueError(f"the folder holds more than {MAX_FILES} files")
    return files


def _order(file: Path) -> list[tuple[int, str]]:
    """Sort 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(file.name)]


def _parts(name: str) -> list[str]:
    return re.findall(r"[0-9]{1,18}|[^0-9]+", name)


def open_file(path: Path, stack: ExitStack) -> tuple[Path, BagFile]:
    """Open a file of a bag, and unpack it first if it is packed as a whole.

    Returns where it lies then, and the file.

    Raises:
        ValueError: it is no bag.
        Exception: it is damaged.

    """
    file = stack.enter_context(_open_regular(path))
    magic = _read_magic(file)
    if magic.startswith(ZSTD_MAGIC):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = _unpack(file, folder / path.name.removesuffix(PACKED))
        file = stack.enter_context(path.open("rb"))
        magic = _read_magic(file)
    if magic.startswith(MCAP_MAGIC):
        return path, McapFile(file)
    if magic == SQLITE_MAGIC:
        database = SqliteFile(path)
        stack.callback(database.close)
        return path, database
    if magic.startswith(ROS1_VERSION):
        return path, Ros1File(file)
    if not magic:
        raise NothingLeft("it is empty")
    raise ValueError(_describe_other(path, magic))


def _read_magic(file: BinaryIO) -> bytes:
    magic = file.read(MAGIC_BYTES)
    file.seek(0)
    return magic


def _describe_other(path: Path, magic: bytes) -> str:
    for begin, (kind, command) in OTHERS.items():
        if magic.startswith(begin):
            return f"it is {kind}; run: {command.format(shlex.quote(str(path)))}"
    return "it is no bag: neither mcap, sqlite3 nor a .bag file of ROS 1"


def find_repair(path: Path) -> str:
    """Return the command that may save what a damaged file holds; empty if there is none."""
    try:
        with _open_regular(path) as file:
            magic = _read_magic(file)
    except (OSError, ValueError):
        return ""
    for begin, command in REPAIRS.items():
        if magic.startswith(begin):
            return command.format(shlex.quote(str(path)))
    return ""


def _open_regular(path: Path) -> BinaryIO:
    """Open a file without waiting for whoever writes into a FIFO."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path.name} is not a regular file")


def _unpack(packed: BinaryIO, target: Path) -> Path:
    limit = UNPACKED_BYTES + UNPACKED_PER_BYTE * os.fstat(packed.fileno()).st_size
    with target.open("wb") as file:
        unpack_file(packed, file, limit)
    return target
