# SPDX-License-Identifier: Apache-2.0
"""What GPU is here, asked of the driver itself: no CUDA package, no context, no memory on it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
NAME_BYTES = 256
# CUdevice_attribute of cuda.h; these numbers are the driver's ABI and never change
SM_COUNT = 16
INTEGRATED = 18
CAN_MAP_HOST_MEMORY = 19
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """The facts of one GPU.

    Attributes:
        name: as the driver says it, for example "Orin".
        compute_capability: "8.7".
        sm_count: number of multiprocessors.
        integrated: the GPU shares the memory of the CPU, as on a Jetson.
        can_map_host_memory: kernels can read and write page-locked memory of the CPU.
        memory_bytes: all memory of the GPU.
        cuda: the newest CUDA version the driver serves, "13.0".

    """

    name: str
    compute_capability: str
    sm_count: int
    integrated: bool
    can_map_host_memory: bool
    memory_bytes: int
    cuda: str


class _NoAnswer(Exception):
    """The driver reported a failure."""


def find_gpu(library: str = DRIVER) -> Gpu | None:
    """Return the first GPU that ``CUDA_VISIBLE_DEVICES`` leaves, or None where there is none.

    Never raises: a machine without a GPU, or without a driver, is the normal case.
    """
    try:
        driver = ctypes.CDLL(library)
        _call(driver, "cuInit", 0)
        return _describe(driver)
    except (OSError, AttributeError, _NoAnswer):  # no library, not the driver's, or no GPU
        return None


def driver_version(library: str = DRIVER) -> str:
    """Return the newest CUDA version the driver serves ("13.0"), or "" without a driver."""
    try:
        return _version(ctypes.CDLL(library))
    except (OSError, AttributeError, _NoAnswer):
        return ""


def _describe(driver: ctypes.CDLL) -> Gpu:
    device = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, NAME_BYTES, device)
    memory = ctypes.c_size_t()
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    major, minor = attribute(COMPUTE_CAPABILITY_MAJOR), attribute(COMPUTE_CAPABILITY_MINOR)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        sm_count=attribute(SM_COUNT),
        integrated=bool(attribute(INTEGRATED)),
        can_map_host_memory=bool(attribute(CAN_MAP_HOST_MEMORY)),
        memory_bytes=memory.value,
        cuda=_version(driver),
    )


def _version(driver: ctypes.CDLL) -> str:
    version = ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code != 0:
        raise _NoAnswer(function, code)
