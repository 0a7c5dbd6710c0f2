# SPDX-License-Identifier: Apache-2.0
"""Our code on the real PyCUDA, which runs on a driver without a GPU behind it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perception_node.engines.tensorrt.cuda.pycuda_driver import find_compiler
from perception_node.errors import EnvironmentLacks
from tests.builders import ROOT
from tests.cuda_host import host_kernel
from tests.fake_cuda.fake_driver import build_driver, build_rest, compiler

CHECKS = ROOT / "tests/fake_cuda/pycuda_checks.py"
LEFT_ON_PURPOSE = "ignore::UserWarning"  # "in out-of-thread context could not be cleaned up"


def pycuda_extension():
    """Return PyCUDA's compiled module, without importing it: that would load a driver."""
    package = importlib.util.find_spec("pycuda")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("_driver.*.so"), None)


@pytest.mark.slow
@pytest.mark.skipif(pycuda_extension() is None, reason="PyCUDA is not installed")
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc, which PyCUDA compiles with")
@pytest.mark.skipif(compiler() is None, reason="no C compiler for the fake driver")
def test_pycuda_on_a_fake_driver(tmp_path):
    driver = build_driver()
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver.parent),
        "LD_PRELOAD": f"{driver}:{build_rest(pycuda_extension())}",
        "FAKE_CUDA_KERNEL": str(host_kernel.build()),
        "PYCUDA_CACHE_DIR": str(tmp_path),
    }
    checks = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-W", LEFT_ON_PURPOSE, CHECKS),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checks.returncode == 0, checks.stdout + checks.stderr
    assert "PyCUDA ERROR" not in checks.stderr


def test_the_compiler_is_found_where_jetpack_puts_it(tmp_path, monkeypatch):
    module = "perception_node.engines.tensorrt.cuda.pycuda_driver.TOOLKIT"
    monkeypatch.setattr(module, tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentLacks, match="nvcc is neither on PATH nor in"):
        find_compiler()
    (tmp_path / "nvcc").write_text("#!/bin/sh\n")
    (tmp_path / "nvcc").chmod(0o755)
    assert find_compiler() == str(tmp_path / "nvcc")
