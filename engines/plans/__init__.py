# SPDX-License-Identifier: Apache-2.0
"""Plans that TensorRT built on this machine: what binds each of them, and where they are kept."""

from perception_node.engines.plans.fingerprint import BuildOptions, PlanFingerprint, l4t_release
from perception_node.engines.plans.store import PlanStore
from perception_node.engines.plans.stored_plan import (
    DamagedPlan,
    NewPlan,
    StoredPlan,
    load_stored_plan,
)

__all__ = [
    "BuildOptions",
    "DamagedPlan",
    "NewPlan",
    "PlanFingerprint",
    "PlanStore",
    "StoredPlan",
    "l4t_release",
    "load_stored_plan",
]
