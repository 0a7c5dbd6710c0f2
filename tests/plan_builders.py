# SPDX-License-Identifier: Apache-2.0
"""Fingerprints and plans for tests; the bytes are none that TensorRT would take."""

from __future__ import annotations

from dataclasses import replace

from perception_node.engines.plans import BuildOptions, NewPlan, PlanFingerprint

NAME = "colors"
ORIN = PlanFingerprint(
    onnx_sha256="a1" * 32,
    precision="fp16",
    calibration_sha256="",
    input_shape=(1, 3, 8, 8),
    output_shape=(1, 3),
    backend="tensorrt",
    tensorrt="10.3.0.30",
    cuda="12.6",
    gpu="Orin",
    compute_capability="8.7",
    sm_count=8,
    l4t="36.4.3",
    architecture="aarch64",
    options=BuildOptions(),
)
OTHER_VALUES = {
    "onnx_sha256": "b2" * 32,
    "precision": "int8",
    "calibration_sha256": "c3" * 32,
    "input_shape": (1, 3, 8, 16),
    "output_shape": (1, 4),
    "backend": "tensorrt-rtx",
    "tensorrt": "10.3.0.31",
    "cuda": "12.8",
    "gpu": "Thor",
    "compute_capability": "11.0",
    "sm_count": 16,
    "l4t": "38.2.0",
    "architecture": "x86_64",
    "options": BuildOptions(workspace_mib=1024),
}


def with_other(field: str) -> PlanFingerprint:
    """Return the fingerprint with another value in one field."""
    return replace(ORIN, **{field: OTHER_VALUES[field]})


def plan(content: bytes = b"plan", **details) -> NewPlan:
    return NewPlan(content, details)


def builder(content: bytes = b"plan", **details):
    """Return a build function, which has no work to do."""
    return lambda: plan(content, **details)


def never_built():
    """Fail as a build function where nothing must be built."""
    raise AssertionError("built although the store has it")
