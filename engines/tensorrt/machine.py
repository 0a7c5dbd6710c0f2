# SPDX-License-Identifier: Apache-2.0
"""What of this machine binds a plan, and would a stored one run here?"""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perception_node.engines.plans import l4t_release
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.cuda.gpu import driver_version, find_gpu
from perception_node.errors import EnvironmentLacks

if TYPE_CHECKING:
    from perception_node.engines.plans import PlanFingerprint
    from perception_node.engines.tensorrt.cuda.gpu import Gpu


def machine_facts(gpu: Gpu | None) -> dict[str, Any]:
    """Return the fields of a ``PlanFingerprint`` that are facts of this machine."""
    return {
        "cuda": gpu.cuda if gpu else driver_version(),
        "gpu": gpu.name if gpu else "",
        "compute_capability": gpu.compute_capability if gpu else "",
        "sm_count": gpu.sm_count if gpu else 0,
        "l4t": l4t_release(),
        "architecture": platform.machine(),
    }


def differences_to_this_machine(fingerprint: PlanFingerprint) -> list[str]:
    """Return one text for each fact of this machine that a plan was not built for.

    What the plan was made from (model, precision, options) is taken as it is. A TensorRT that
    cannot be imported counts as no difference: it may be back tomorrow.
    """
    try:
        version = load_tensorrt(fingerprint.backend).version
    except EnvironmentLacks:
        version = fingerprint.tensorrt
    here = replace(fingerprint, tensorrt=version, **machine_facts(find_gpu()))
    return fingerprint.differences(here)
