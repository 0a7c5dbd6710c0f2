# SPDX-License-Identifier: Apache-2.0
"""From a bundle to an ONNX Runtime engine: which of its models may run on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.engines.onnxruntime.runtime import OnnxRuntimeEngine
from perception_node.errors import ModelFormatError
from perception_node.model.accuracy import require_accurate
from perception_node.model.bundle import INT8_ON_CPU, MODEL

if TYPE_CHECKING:
    from perception_node.engines.base import Engine
    from perception_node.engines.registry import Order


def load_engine(order: Order) -> Engine:
    """Return the engine; it computes int8 where that is wanted, float32 otherwise.

    Raises:
        ModelError: the model cannot be used; UngatedModel if its accuracy was not shown.
        EngineError: the model is no longer wanted.

    """
    bundle, model = order.bundle, INT8_ON_CPU if order.precision == "int8" else MODEL
    if model not in bundle.files:
        make = f"run: perception calibrate {bundle.path} --images DIR"
        problem = f"missing; {make}, or set precision to fp32 ({order.reason})"
        raise ModelFormatError(bundle.path / model, problem)
    if model == INT8_ON_CPU:
        require_accurate(bundle, model, allow_ungated=order.config.allow_ungated)
    order.progress.say(f"ONNX Runtime loads {model}")
    return OnnxRuntimeEngine(bundle, order.config.threads, model)
