# SPDX-License-Identifier: Apache-2.0
"""Which folders and files Python and its packages live in: all that a confined process reads.

An entry of ``sys.path`` or ``LD_LIBRARY_PATH`` is no such folder by itself: an empty one means the
current folder, and others name a home or a project with more in it than code. So of an entry that
is no folder of installed packages, only the packages that were imported are readable, and of a
folder of libraries only the libraries.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SYSTEM_PATHS = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system",
)
INSTALLED = {"site-packages", "dist-packages"}  # names of folders that hold packages only
ARCHIVES = {".zip", ".egg"}


def readable_paths(private: Iterable[Path]) -> list[Path]:
    """Return what Python, its packages and the C library read, without links, and this folder.

    Call it after all imports. ``private`` are folders that are none of packages, whatever lies in
    them: a home, for example.
    """
    closed = [_real(path) for path in private]
    files = {_real(file) for file in _imported_files()}
    folders = {file.parent for file in files if file.stem == "__init__"}
    folders |= {_real(entry) for entry in sys.path if _is_target(entry)}
    folders = {path for path in folders if not any(lies_in(each, [path]) for each in closed)}
    folders |= {_real(path) for path in (*_package_folders(), *SYSTEM_PATHS)}
    folders.add(Path.cwd())
    files |= {path for entry in _library_folders() for path in _libraries(entry)}
    files |= {path for path in map(_real, sys.path) if path.suffix in ARCHIVES and path.is_file()}
    outside = [path for path in files if not lies_in(path, folders)]
    outermost = [path for path in folders if not lies_in(path.parent, folders - {path})]
    return sorted([*outermost, *outside])


def search_path(entries: Iterable[str], here: Path) -> list[str]:
    """Return entries of ``PATH`` and the like as absolute paths, without the current folder.

    ``here`` is the current folder of whoever set them; an empty entry means it too.
    """
    absolute = [here / entry for entry in entries if entry]
    return [str(path) for path in absolute if _real(path) != _real(here)]


def lies_in(path: Path, folders: Iterable[Path]) -> bool:
    """Tell whether a path without links is one of the folders or below one."""
    return not {path, *path.parents}.isdisjoint(folders)


def _is_target(entry: str) -> bool:
    """Tell whether packages were installed into a folder: ``pip install --target``."""
    return any(Path(entry).glob("*.dist-info"))


def _package_folders() -> Iterator[str]:
    """Yield the folders of the standard library and of installed packages."""
    yield from (sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from site.getsitepackages()
    for entry in sys.path:
        if Path(entry).name in INSTALLED:
            yield entry


def _library_folders() -> Iterator[str]:
    """Yield the folders with shared libraries of Python, and those that the user named."""
    yield from (entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry)
    yield from (f"{prefix}/lib" for prefix in {sys.prefix, sys.base_prefix})


def _libraries(folder: str) -> Iterator[Path]:
    """Yield the shared libraries of a folder, without links."""
    try:
        with os.scandir(folder) as entries:  # thousands of them
            found = [entry.path for entry in entries if ".so" in entry.name]
    except OSError:
        return
    for path in map(_real, found):
        if ".so" in path.name and path.is_file():
            yield path


def _imported_files() -> Iterator[str]:
    """Yield the file of each imported module."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).is_absolute():
            yield file


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))
