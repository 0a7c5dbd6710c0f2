# SPDX-License-Identifier: Apache-2.0
"""The engines that there are: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from perception_node.engines.onnxruntime.loading import load_engine as load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.config.sections import ModelConfig, Precision
    from perception_node.engines.base import Engine
    from perception_node.engines.loading import Phases
    from perception_node.model.bundle import ModelBundle


class Order(NamedTuple):
    """What an engine is made of.

    Attributes:
        bundle: the model.
        precision: the one that is wanted.
        config: the section of the model.
        progress: is told what is being done.
        reason: why this engine is made, in words for an error.

    """

    bundle: ModelBundle
    precision: Precision
    config: ModelConfig
    progress: Phases
    reason: str = ""


class EngineKind(NamedTuple):
    """A kind of engine.

    Attributes:
        name: as the parameter ``engine`` has it.
        title: in words, for a log.
        load: makes an engine on the calling thread, which owns it from then on. It raises
            EnvironmentLacks or EngineError where it cannot, and ModelError where it must not.

    """

    name: str
    title: str
    load: Callable[[Order], Engine]


def from_module(module: str) -> Callable[[Order], Engine]:
    """Return the ``load_engine`` of a module, which is imported once an engine is wanted."""
    return lambda order: cast("Engine", import_module(module).load_engine(order))


# In the order in which ``auto`` tries them. The last runs everywhere, and stands by for others.
ENGINES = [
    EngineKind("tensorrt", "TensorRT", from_module("perception_node.engines.tensorrt.loading")),
    EngineKind("onnxruntime", "ONNX Runtime", load_onnxruntime),
]
