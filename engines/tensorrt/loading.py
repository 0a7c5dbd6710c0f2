# SPDX-License-Identifier: Apache-2.0
"""From a bundle to a running TensorRT engine: the GPU, the plan store, the plan."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.engines.plans import PlanStore
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.build import (
    NO_GPU,
    ensure_plan,
    fingerprint_of,
    require_gate,
)
from perception_node.engines.tensorrt.calibration_cache import CALIBRATION_CACHE
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
from perception_node.engines.tensorrt.runtime import TensorRtEngine
from perception_node.errors import EnvironmentLacks, PlanError, PlanMismatch, PlanMissing

if TYPE_CHECKING:
    from perception_node.config.sections import Precision
    from perception_node.engines.base import Engine
    from perception_node.engines.plans import StoredPlan
    from perception_node.engines.registry import Order
    from perception_node.engines.tensorrt.api import TensorRt
    from perception_node.model.bundle import ModelBundle


def load_engine(order: Order) -> Engine:
    """Return the TensorRT engine of a bundle, on the calling thread, which owns it from then on.

    Where no plan fits, it is built now if ``build_missing_plan`` says so.

    Raises:
        UngatedModel: the int8 model has not passed the accuracy gate, and may not run without.
        EnvironmentLacks: no GPU, no TensorRT or no PyCUDA here.
        PlanError: no plan fits, and none may be built.
        EngineError: the plan cannot be built or run, or the model is no longer wanted.

    """
    bundle, precision, config, progress = order[:4]
    progress.say("looking for TensorRT and a plan")
    if find_gpu() is None:
        raise EnvironmentLacks(NO_GPU)
    trt = load_tensorrt()
    plans = PlanStore(Path(config.plan_store).expanduser() if config.plan_store else None)
    require_gate(bundle, precision, allow_ungated=config.allow_ungated)
    try:
        plan = _find_plan(plans, bundle, precision, trt)
    except PlanError:
        if not config.build_missing_plan:
            raise
        plan = ensure_plan(
            bundle,
            precision,
            trt.backend,
            plans,
            report=progress.say_build,
            cancel=progress.given_up,
            allow_ungated=config.allow_ungated,
        )
    return TensorRtEngine(bundle, plan.read(), trt, PyCuda(), precision=precision)


def _find_plan(
    plans: PlanStore, bundle: ModelBundle, precision: Precision, trt: TensorRt
) -> StoredPlan:
    """Return the plan of the bundle's model; of int8 else the classic one, if it was built."""
    name, gpu = bundle.manifest.name, find_gpu()
    wanted = fingerprint_of(bundle, precision, trt, gpu)
    try:
        return plans.find(name, wanted, any_options=True)
    except (PlanMissing, PlanMismatch):
        if precision == "int8" and CALIBRATION_CACHE in bundle.files:
            wanted = fingerprint_of(bundle, precision, trt, gpu, classic=True)
            with suppress(PlanMissing, PlanMismatch):
                return plans.find(name, wanted, any_options=True)
        raise
