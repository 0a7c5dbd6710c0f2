# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernel on the CPU: the same source, compiled by g++ with a small shim header."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
KERNEL_FOLDER = FOLDER.parents[1] / "engines/tensorrt/cuda"
BUILD_FOLDER = FOLDER.parents[1] / "build/cuda_host"
SOURCES = (KERNEL_FOLDER / "preprocess.cu", FOLDER / "host_kernel.cpp", FOLDER / "shim.h")
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra", "-Werror")

_one_launch = threading.Lock()  # all launches share the memory of one block


def compiler() -> str | None:
    """Return the path of a C++ compiler, None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


class HostKernel:
    """Launches the kernel on host memory; has the ``launch`` of the ``Kernel`` protocol."""

    def __init__(self) -> None:
        """Load the library, which is compiled again where its sources have changed."""
        self.library = ctypes.CDLL(str(build()))
        self.library.launch.argtypes = [
            *(ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p),
            *[ctypes.c_int] * 4,
        ]
        self.library.launch.restype = None

    def launch(
        self,
        grid: tuple[int, int],
        block: tuple[int, int, int],
        parameters: bytes,
        source: int,
        target: int,
    ) -> None:
        """Run the kernel and return when it is done.

        Args:
            grid: number of blocks in x and y.
            block: ignored: every block is run by one thread, that is fastest here.
            parameters: the bytes of a ``kernel.Parameters``.
            source: address of the frame's bytes.
            target: address of the input, float32.

        """
        self.launch_threads(grid, (1, 1), parameters, source, target)

    def launch_threads(
        self,
        grid: tuple[int, int],
        threads: tuple[int, int],
        parameters: bytes,
        source: int,
        target: int,
    ) -> None:
        """Run every block with real threads, which share its memory as on a GPU."""
        if len(parameters) != self.library.parameters_size():
            msg = f"{len(parameters)} bytes of parameters, not {self.library.parameters_size()}"
            raise ValueError(msg)
        with _one_launch:
            self.library.launch(parameters, source, target, *grid, *threads)


def build(*flags: str) -> Path:
    """Compile the kernel, unless it is there, and return the shared library."""
    command = [compiler() or "g++", *FLAGS, *flags]
    digest = hashlib.sha256(" ".join(command).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    library = BUILD_FOLDER / f"kernel-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD_FOLDER) as folder:  # others may build it too
            made = Path(folder) / library.name
            source = FOLDER / "host_kernel.cpp"
            subprocess.run([*command, f"-I{KERNEL_FOLDER}", source, "-o", made], check=True)
            made.replace(library)
    return library
