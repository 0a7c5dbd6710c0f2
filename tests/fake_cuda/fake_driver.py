# SPDX-License-Identifier: Apache-2.0
"""Builds ``fake_cuda.c``: a libcuda.so.1 without a GPU behind it."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("fake_cuda.c")
BUILD_FOLDER = SOURCE.parents[2] / "build/fake_cuda"
# It has no soname: loaded by its path, it must not be what "libcuda.so.1" finds from then on.
FLAGS = ("-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra")


def compiler() -> str | None:
    """Return the path of a C compiler, None if there is none."""
    return shutil.which("gcc") or shutil.which("cc")


def build_driver() -> Path:
    """Compile the driver, unless it is there, and return its ``libcuda.so.1``."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    library = BUILD_FOLDER / digest / "libcuda.so.1"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD_FOLDER) as folder:  # others may build it too
            made = Path(folder) / library.name
            subprocess.run([compiler(), *FLAGS, SOURCE, "-ldl", "-o", made], check=True)
            made.replace(library)
        (library.parent / "libcuda.so").unlink(missing_ok=True)
        (library.parent / "libcuda.so").symlink_to(library.name)  # to link against
    return library


def load_driver() -> ctypes.CDLL:
    """Return the driver with the state it starts with."""
    driver = ctypes.CDLL(str(build_driver()))
    driver.fake_break(0)
    driver.fake_set_device(1, 0)
    return driver


def build_rest(extension: Path) -> Path:
    """Return a library of what a compiled module wants of CUDA and the driver lacks.

    Each of these functions reports that it is not supported.
    """
    wanted = _functions(extension, "--undefined-only") - _functions(
        build_driver(), "--defined-only"
    )
    text = "".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(wanted))
    library = BUILD_FOLDER / f"rest-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    with tempfile.TemporaryDirectory(dir=BUILD_FOLDER) as folder:
        source, made = Path(folder) / "rest.c", Path(folder) / library.name
        source.write_text(text, encoding="ascii")
        subprocess.run([compiler(), "-shared", "-fPIC", source, "-o", made], check=True)
        made.replace(library)
    return library


def _functions(library: Path, kind: str) -> set[str]:
    """Return the names of the CUDA functions that a library has or wants."""
    listing = subprocess.run(
        ["nm", "-D", kind, library],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    return {name for name in names if re.fullmatch(r"cu[A-Z]\w*", name)}
