# SPDX-License-Identifier: Apache-2.0
"""Install PyCUDA from its source where it is missing: it has no wheels.

It needs a C++ compiler, the headers of CUDA and the driver. Headers that are not here come from
the package index, in the version of the driver.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.engines.tensorrt.cuda.gpu import DRIVER, driver_version, find_gpu
from perception_node.errors import EnvironmentLacks
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Callable

PYCUDA = "pycuda==2026.1"
NEEDS = ("setuptools<80", "wheel", "mako", "pytools", "platformdirs", "numpy")
FIRST_WITHOUT_SUFFIX = 13  # CUDA
TOOLKIT = Path("/usr/local/cuda/include")


def ensure_pycuda(say: Callable[[str], None]) -> str:
    """Install PyCUDA unless it can be imported, and return its version.

    Args:
        say: told what is being done, as it takes minutes.

    Raises:
        EnvironmentLacks: it cannot be installed; the message holds the last line of the reason.

    """
    if importlib.util.find_spec("pycuda") is None:
        with tempfile.TemporaryDirectory() as folder:
            _install(Path(folder), say)
        importlib.invalidate_caches()
    try:
        return str(importlib.import_module("pycuda").VERSION_TEXT)
    except ImportError as error:
        msg = f"PyCUDA cannot be imported ({error}); pip uninstall pycuda and run this again"
        raise EnvironmentLacks(msg) from error


def _install(folder: Path, say: Callable[[str], None]) -> None:
    if shutil.which("g++") is None:
        msg = "g++ is missing, PyCUDA is built with it; run: sudo apt install g++"
        raise EnvironmentLacks(msg)
    _pip("install", *NEEDS)
    headers = _find_headers()
    if headers is None:
        say(f"headers of CUDA {driver_version()} are fetched")
        _pip("install", *_header_packages(driver_version()))
        headers = _find_headers()
    if headers is None:
        msg = "cuda.h is not here; install the CUDA toolkit, or put nvcc on PATH"
        raise EnvironmentLacks(msg)
    say(f"{PYCUDA} is built with the headers in {headers}, which takes minutes")
    source = _unpack(folder)
    library = _link_driver(folder)
    configure = (
        *("configure.py", f"--cuda-inc-dir={headers}", f"--cudadrv-lib-dir={library}"),
        "--no-cuda-enable-curand",
    )
    _run([sys.executable, *configure], source)
    _pip("install", "--no-build-isolation", "--no-deps", ".", folder=source)


def _find_headers() -> Path | None:
    """Return the first folder that holds all headers that PyCUDA includes."""
    nvcc = shutil.which("nvcc")
    candidates = [Path(os.environ["CUDA_HOME"]) / "include"] if "CUDA_HOME" in os.environ else []
    candidates += [Path(nvcc).resolve().parent.parent / "include"] if nvcc else []
    candidates += [TOOLKIT]
    candidates += sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/include"))
    needed = ("cuda.h", "cudaProfiler.h", "crt/host_config.h")
    return next((each for each in candidates if all((each / n).exists() for n in needed)), None)


def _header_packages(version: str) -> tuple[str, ...]:
    """Return the packages with the headers of a version of CUDA; from 13 on without a suffix."""
    major = int(version.partition(".")[0] or 0)
    suffix = "" if major >= FIRST_WITHOUT_SUFFIX else f"-cu{major}"
    compiler = "nvidia-cuda-crt" if not suffix else f"nvidia-cuda-nvcc{suffix}"
    return (
        f"nvidia-cuda-runtime{suffix}=={version}.*",
        f"{compiler}=={version}.*",
        f"nvidia-cuda-profiler-api{suffix}=={version}.*",
    )


def _unpack(folder: Path) -> Path:
    _pip(
        "download", "--no-binary=:all:", "--no-deps", "--no-build-isolation", "-d", folder, PYCUDA
    )
    (archive,) = folder.glob("pycuda-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def _link_driver(folder: Path) -> Path:
    """Return a folder with ``libcuda.so``, which the linker wants and a driver may lack."""
    find_gpu()  # loads the driver
    maps = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    paths = {
        line.split()[-1] for line in maps.splitlines() if f"/{DRIVER.partition('.')[0]}." in line
    }
    library = folder / "driver"
    library.mkdir()
    for path in sorted(paths)[:1]:
        (library / "libcuda.so").symlink_to(path)
    return library


def _pip(*arguments: str | Path, folder: Path | None = None) -> None:
    _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments], folder)


def _run(command: list[str | Path], folder: Path | None) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=ended_with_us()
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        errors = [line for line in lines if "error" in line.lower()] or lines
        msg = f"{' '.join(map(str, command[1:5]))} failed: {errors[-1][:300]}"
        raise EnvironmentLacks(msg)
