# SPDX-License-Identifier: Apache-2.0
"""What ``perception doctor`` says about GPU, TensorRT and plans: the node runs without them."""

from __future__ import annotations

import importlib.util

from perception_node.doctor.findings import OK, OPTIONAL, Finding, version_of
from perception_node.engines.plans import DamagedPlan, PlanStore
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.cuda.gpu import driver_version, find_gpu
from perception_node.engines.tensorrt.machine import differences_to_this_machine
from perception_node.errors import EnvironmentLacks, PerceptionError
from perception_node.installing import install_command

ON_THE_CPU = "without it inference runs on the CPU"
IMPORTERS = {
    "onnx": f"perception import and perception build need it: {install_command('onnx')}",
    "torch": f"to import TorchScript models: {install_command('torch')}",
}


def check_gpu() -> Finding:
    """Ask the driver what GPU is here."""
    gpu = find_gpu()
    if gpu is None:
        if version := driver_version():
            advice = "nvidia-smi says why; in Docker: --gpus all, or --runtime nvidia on a Jetson"
            return Finding("GPU", OPTIONAL, f"none, driver for CUDA {version}", advice)
        return Finding("GPU", OPTIONAL, "no NVIDIA driver", ON_THE_CPU)
    memory = f"{gpu.memory_bytes >> 20} MiB{' shared with the CPU' if gpu.integrated else ''}"
    found = (
        f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.sm_count} SMs, "
        f"{memory}, driver for CUDA {gpu.cuda}"
    )
    return Finding("GPU", OK, found)


def check_tensorrt() -> Finding:
    """Import TensorRT: the engine of the node."""
    try:
        return Finding("TensorRT", OK, load_tensorrt("tensorrt").version)
    except EnvironmentLacks as error:
        return Finding("TensorRT", OPTIONAL, *_problem_and_advice(error))


def check_tensorrt_rtx() -> Finding:
    """Import TensorRT-RTX, which nothing needs that runs on a robot."""
    try:
        return Finding("TensorRT-RTX", OK, load_tensorrt("tensorrt-rtx").version)
    except EnvironmentLacks:
        found = "not installed; it only shows, without a GPU, that a model can be built"
        return Finding("TensorRT-RTX", OK, found)


def check_pycuda() -> Finding:
    """Look for PyCUDA and for nvcc, with which it compiles the preprocessing."""
    advice = f"with an NVIDIA GPU and the CUDA toolkit: {install_command('pycuda')}"
    if importlib.util.find_spec("pycuda") is None:
        return Finding("PyCUDA", OPTIONAL, "not installed", advice)
    from perception_node.engines.tensorrt.cuda.pycuda_driver import find_compiler

    version = version_of("pycuda")
    try:
        return Finding("PyCUDA", OK, f"{version}, {find_compiler()}")
    except EnvironmentLacks as error:
        problem, nvcc_advice = _problem_and_advice(error)
        return Finding("PyCUDA", OPTIONAL, f"{version}, {problem}", nvcc_advice)


def check_plans() -> Finding:
    """Read the plan store of this user."""
    try:
        store = PlanStore()
        entries = store.entries()
    except PerceptionError as error:
        return Finding("plans", OPTIONAL, str(error), "no plan is used until this is repaired")
    damaged = [entry for entry in entries if isinstance(entry, DamagedPlan)]
    plans = [entry for entry in entries if not isinstance(entry, DamagedPlan)]
    fitting = [
        plan
        for plan in plans
        if plan.fingerprint.gpu and not differences_to_this_machine(plan.fingerprint)
    ]
    mebibytes = sum(plan.plan_bytes for plan in plans) >> 20
    found = f"{len(plans)} ({mebibytes} MiB), {len(fitting)} for this machine, in {store.folder}"
    if damaged:
        advice = f"{damaged[0].problem}; remove damaged plans: perception build --prune"
        return Finding("plans", OPTIONAL, f"{found}; {len(damaged)} damaged", advice)
    return Finding("plans", OK, found)


def check_importers() -> Finding:
    """Look for the packages that make bundles and plans of models."""
    versions = {name: version_of(name) for name in IMPORTERS}
    found = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    advice = "; ".join(IMPORTERS[name] for name, version in versions.items() if not version)
    return Finding("model import", OPTIONAL if advice else OK, found, advice)


def _problem_and_advice(error: EnvironmentLacks) -> tuple[str, str]:
    return error.problem, f"{error.advice} ({ON_THE_CPU})"
