# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import subprocess

import pytest

from perception_node.engines.tensorrt.cuda.gpu import Gpu, driver_version, find_gpu
from tests.fake_cuda.fake_driver import build_driver, compiler, load_driver

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the fake driver")


@pytest.fixture
def driver():
    driver = load_driver()
    yield driver
    driver.fake_set_device(1, 0)


def test_the_driver_says_what_gpu_is_here(driver):
    assert find_gpu(library=str(build_driver())) == Gpu(
        name="Fake GPU",
        compute_capability="8.7",
        sm_count=14,
        integrated=False,
        can_map_host_memory=True,
        memory_bytes=8 << 30,
        cuda="13.0",
    )
    driver.fake_set_device(1, 1)
    assert find_gpu(library=str(build_driver())).integrated


def test_asking_makes_no_context(driver):
    find_gpu(library=str(build_driver()))
    assert driver.fake_retained() == 0
    assert driver.fake_live() == 0


def test_a_driver_without_a_gpu_is_no_gpu(driver):
    driver.fake_set_device(0, 0)
    assert find_gpu(library=str(build_driver())) is None
    assert driver_version(str(build_driver())) == "13.0"


@pytest.mark.parametrize("library", ["libnowhere.so.1", "libc.so.6", "/etc/passwd"])
def test_what_is_no_driver_is_no_gpu(library):
    assert find_gpu(library=library) is None
    assert driver_version(library) == ""


def test_a_driver_that_lacks_a_function_is_no_gpu(tmp_path):
    source = tmp_path / "old.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    library = tmp_path / "libold.so"
    subprocess.run(
        [shutil.which(compiler()), "-shared", "-fPIC", source, "-o", library], check=True
    )
    assert find_gpu(library=str(library)) is None


def test_the_fake_driver_does_not_stay_behind_as_the_machines():
    found = find_gpu()
    find_gpu(library=str(build_driver()))
    assert find_gpu() == found
