# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import platform
from dataclasses import replace
from importlib import metadata

import pytest

from perception_node.doctor import findings, gpu_findings
from perception_node.doctor.findings import OK, OPTIONAL, Finding
from perception_node.engines.plans import PlanStore
from perception_node.engines.tensorrt.cuda.gpu import Gpu
from perception_node.errors import EnvironmentLacks
from tests.builders import put_command
from tests.plan_builders import NAME, ORIN, builder

GPU = Gpu(
    name="Orin",
    compute_capability="8.7",
    sm_count=8,
    integrated=True,
    can_map_host_memory=True,
    memory_bytes=32 << 30,
    cuda="12.6",
)


class TensorRt:
    version = ORIN.tensorrt


@pytest.fixture
def orin(monkeypatch):
    """Let this machine look like the one for which ``ORIN`` was built."""
    machine = "perception_node.engines.tensorrt.machine"
    for module in (gpu_findings.__name__, machine):
        monkeypatch.setattr(f"{module}.find_gpu", lambda: GPU)
        monkeypatch.setattr(f"{module}.load_tensorrt", lambda _backend: TensorRt())
    monkeypatch.setattr(f"{machine}.l4t_release", lambda: ORIN.l4t)
    monkeypatch.setattr(platform, "machine", lambda: ORIN.architecture)


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return PlanStore()


def test_a_gpu_with_memory_of_its_own_and_one_without(monkeypatch):
    monkeypatch.setattr(gpu_findings, "find_gpu", lambda: GPU)
    found = (
        "Orin, compute capability 8.7, 8 SMs, 32768 MiB shared with the CPU, driver for CUDA 12.6"
    )
    assert gpu_findings.check_gpu() == Finding("GPU", OK, found)
    monkeypatch.setattr(gpu_findings, "find_gpu", lambda: replace(GPU, integrated=False))
    assert "32768 MiB, driver" in gpu_findings.check_gpu().found


def test_a_driver_without_a_gpu_is_told_from_no_driver(monkeypatch):
    monkeypatch.setattr(gpu_findings, "find_gpu", lambda: None)
    monkeypatch.setattr(gpu_findings, "driver_version", lambda: "13.0")
    finding = gpu_findings.check_gpu()
    assert (finding.state, finding.found) == (OPTIONAL, "none, driver for CUDA 13.0")
    assert "--gpus all" in finding.advice
    monkeypatch.setattr(gpu_findings, "driver_version", lambda: "")
    assert gpu_findings.check_gpu().found == "no NVIDIA driver"


def test_tensorrt_is_optional_and_says_how_to_get_it(monkeypatch):
    def lacks(_backend):
        raise EnvironmentLacks("No module named 'tensorrt'", "run: this; or that")

    monkeypatch.setattr(gpu_findings, "load_tensorrt", lacks)
    advice = "run: this; or that (without it inference runs on the CPU)"
    expected = Finding("TensorRT", OPTIONAL, "No module named 'tensorrt'", advice)
    assert gpu_findings.check_tensorrt() == expected
    assert gpu_findings.check_tensorrt_rtx().state == OK  # no robot needs it
    assert gpu_findings.check_tensorrt_rtx().found.startswith("not installed")


@pytest.mark.usefixtures("orin")
def test_tensorrt_where_it_is():
    assert gpu_findings.check_tensorrt() == Finding("TensorRT", OK, "10.3.0.30")
    assert gpu_findings.check_tensorrt_rtx() == Finding("TensorRT-RTX", OK, "10.3.0.30")


def test_pycuda_and_its_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert gpu_findings.check_pycuda().found == "not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(metadata, "version", lambda _name: "2026.1")
    driver = "perception_node.engines.tensorrt.cuda.pycuda_driver"
    monkeypatch.setattr(f"{driver}.TOOLKIT", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = gpu_findings.check_pycuda()
    assert finding.state == OPTIONAL
    assert finding.found.startswith("2026.1, nvcc is neither on PATH")
    assert finding.advice.startswith("install the CUDA toolkit")
    put_command(tmp_path, "nvcc", "exit 0")
    assert gpu_findings.check_pycuda() == Finding("PyCUDA", OK, f"2026.1, {tmp_path}/nvcc")


@pytest.mark.parametrize("script", ["echo half; exit 9", "/bin/sleep 20"])
def test_a_command_that_fails_or_hangs_says_nothing(monkeypatch, tmp_path, script):
    monkeypatch.setattr(findings, "COMMAND_TIMEOUT_S", 0.2)
    put_command(tmp_path, "nvpmodel", script)
    assert findings.output_of([str(tmp_path / "nvpmodel")]) == ""


def test_a_store_without_plans(store):
    found = f"0 (0 MiB), 0 for this machine, in {store.folder}"
    assert gpu_findings.check_plans() == Finding("plans", OK, found)
    assert not store.folder.exists()  # looking makes nothing


@pytest.mark.usefixtures("orin")
def test_plans_for_this_machine_are_told_from_others(store):
    store.build_once(NAME, ORIN, builder(bytes(2 << 20)))
    store.build_once(NAME, replace(ORIN, gpu="Thor"), builder(bytes(1 << 20)))
    without_gpu = replace(ORIN, gpu="", compute_capability="", sm_count=0)
    store.build_once(NAME, without_gpu, builder())
    found = f"3 (3 MiB), 1 for this machine, in {store.folder}"
    assert gpu_findings.check_plans() == Finding("plans", OK, found)


@pytest.mark.usefixtures("orin")
def test_a_plan_built_without_a_gpu_is_for_no_machine(store, monkeypatch):
    without_gpu = replace(ORIN, gpu="", compute_capability="", sm_count=0)
    store.build_once(NAME, without_gpu, builder())
    machine = "perception_node.engines.tensorrt.machine"
    monkeypatch.setattr(f"{machine}.find_gpu", lambda: None)
    monkeypatch.setattr(f"{machine}.driver_version", lambda: ORIN.cuda)
    assert "1 (0 MiB), 0 for this machine" in gpu_findings.check_plans().found


@pytest.mark.usefixtures("orin")
def test_a_damaged_plan_is_named(store):
    stored = store.build_once(NAME, ORIN, builder())
    (store.folder / stored.plan_file).write_bytes(b"evil")
    finding = gpu_findings.check_plans()
    assert finding.state == OPTIONAL
    assert finding.found.endswith("; 1 damaged")
    assert stored.plan_file in finding.advice
    assert "--prune" in finding.advice


def test_a_store_that_others_may_change_is_not_used(store):
    store.folder.mkdir(parents=True)
    store.folder.chmod(0o777)
    finding = gpu_findings.check_plans()
    assert finding.state == OPTIONAL
    assert "others may write to it" in finding.found


def test_the_packages_that_make_bundles(monkeypatch):
    versions = {"onnx": "1.23.2", "torch": "2.13.0+cpu"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    found = "onnx 1.23.2, torch 2.13.0+cpu"
    assert gpu_findings.check_importers() == Finding("model import", OK, found)
    del versions["torch"]
    finding = gpu_findings.check_importers()
    assert finding.found == "onnx 1.23.2, torch not installed"
    assert finding.state == OPTIONAL
    assert finding.advice == "to import TorchScript models: pip install torch==2.13.0"
