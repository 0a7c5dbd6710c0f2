# SPDX-License-Identifier: Apache-2.0
"""Which precision was really built: per layer class, from the network and from the engine.

The network is what TensorRT read; the engine is what it made of it, with layers fused and kernels
chosen, and only a GPU can load it. A strongly typed engine keeps to the types of its network. A
weakly typed one need not: TensorRT takes float32 kernels where they are faster, or where it has
no others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perception_node.errors import EngineBuildError, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.config.sections import Precision
    from perception_node.engines.tensorrt.api import (
        EngineInspector,
        ICudaEngine,
        ILayer,
        INetworkDefinition,
        ITensor,
        Runtime,
        TensorRt,
    )

WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected", "MatrixMultiply")
"""Layer classes that do nearly all of the work, and that a precision is asked for."""

NAMES_SHOWN = 5
WEAK_FP32_ALLOWED = 0.25  # of the weighted layers, where TensorRT may choose
INT8_NEEDED = 0.5  # of what the model quantises

_PRECISIONS = {  # as TensorRT writes its types, in the API and in the inspector's JSON
    "FLOAT": "fp32", "FP32": "fp32", "TF32": "fp32",
    "HALF": "fp16", "FP16": "fp16",
    "INT8": "int8",
    "BFLOAT16": "bf16", "BF16": "bf16",
}  # fmt: skip
_CLASSES = {"Deconv": "Deconvolution", "Conv": "Convolution"}
_MATRIX = re.compile(r"gemm|gemv|matmul|matrixmultiply|fullyconnected|cublas", re.IGNORECASE)
_KERNEL_TYPES = re.compile(r"_(i8|f16|f32|bf16)(?:i8|f16|f32|bf16)?_")
_KERNEL_PRECISIONS = {"i8": "int8", "f16": "fp16", "f32": "fp32", "bf16": "bf16"}
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network or of an engine.

    Attributes:
        name: TensorRT's, which contains the names of the ONNX nodes.
        kind: its class, such as ``Convolution``.
        precision: ``fp32``, ``fp16``, ``int8``, ``bf16``, another type's name, or ``unknown``.

    """

    name: str
    kind: str
    precision: str


def layers_of_network(network: INetworkDefinition) -> tuple[Layer, ...]:
    """Return the layers of a network in its order; a dequantised input counts as int8."""
    layers: list[ILayer] = [network.get_layer(index) for index in range(network.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    return tuple(_layer_of_network(layer, dequantized) for layer in layers)


def _layer_of_network(layer: ILayer, dequantized: set[str]) -> Layer:
    tensor: ITensor = layer.get_input(0) if layer.num_inputs else layer.get_output(0)
    kind = "".join(part.capitalize() for part in layer.type.name.split("_"))
    is_int8 = kind in WEIGHTED and tensor.name in dequantized
    return Layer(layer.name, kind, "int8" if is_int8 else _precision(tensor.dtype.name))


def inspect_plan(trt: TensorRt, plan: bytes) -> dict[str, Any]:
    """Load a plan on this machine's GPU and return what TensorRT's inspector says of it.

    Raises:
        EngineError: the plan cannot be loaded here, or the inspector's answer is no JSON.

    """
    trt.log.clear()
    runtime: Runtime = trt.make(trt.module.Runtime, trt.logger)
    engine: ICudaEngine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        msg = f"TensorRT {trt.version} cannot load the plan it built: {trt.log.text()}"
        raise EngineError(msg)
    inspector: EngineInspector = engine.create_engine_inspector()
    answer = inspector.get_engine_information(trt.module.LayerInformationFormat.JSON)
    try:
        data = json.loads(answer)
    except ValueError as error:
        msg = f"TensorRT {trt.version} described the engine with something else than JSON"
        raise EngineError(msg) from error
    return data if isinstance(data, dict) else {"Layers": data}


def layers_of_engine(inspection: dict[str, Any]) -> tuple[Layer, ...]:
    """Return the layers that ``inspect_plan`` found; fields it does not know are ``unknown``."""
    layers = inspection.get("Layers", [])
    return tuple(
        Layer(str(layer.get("Name", "")), _kind(layer), _precision_built(layer))
        for layer in layers
        if isinstance(layer, dict)
    )


def _kind(layer: dict[str, Any]) -> str:
    """Return the class of an engine's layer: what the network calls it, or its own word."""
    own = str(layer.get("LayerType", UNKNOWN))
    for text in (str(layer.get("ParameterType", "")), own):
        for part, name in _CLASSES.items():
            if part.lower() in text.lower():
                return name
        if _MATRIX.search(text):
            return "MatrixMultiply"
    if own.lower() in {"kgen", "fusion", "myelin"} and "fprop" in str(layer.get("TacticName")):
        return "Convolution"
    return own


def _precision_built(layer: dict[str, Any]) -> str:
    """Return the type that a layer computes in: its weights', its kernel's or its input's."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and _precision(str(weights.get("Type", ""))) in {"int8", "fp16"}:
        return _precision(str(weights["Type"]))
    found = _KERNEL_TYPES.search(str(layer.get("TacticName")))
    if found:
        return _KERNEL_PRECISIONS[found[1]]
    for tensor in (*layer.get("Inputs", []), *layer.get("Outputs", [])):
        precision = _precision(str(tensor.get("Format/Datatype", "")))
        if precision != UNKNOWN:
            return precision
    return UNKNOWN


def _precision(text: str) -> str:
    """Return our name of the type that a text of TensorRT mentions."""
    for word in re.findall(r"[A-Z0-9]+", text.upper()):
        if word in _PRECISIONS:
            return _PRECISIONS[word]
    return text.lower() if text.isalnum() else UNKNOWN


def precision_table(layers: Iterable[Layer]) -> dict[str, dict[str, int]]:
    """Count layers per class and precision: ``{"Convolution": {"fp16": 49}}``."""
    table: dict[str, Counter[str]] = {}
    for layer in layers:
        table.setdefault(layer.kind, Counter())[layer.precision] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(table.items())}


def check_precision(
    layers: Iterable[Layer], precision: Precision, *, is_typed: bool, quantized: int = 0
) -> None:
    """Refuse layers that silently became float32 or are not quantised.

    Strongly typed, every weighted layer must be what was asked for, or lower. Weakly typed,
    TensorRT may take float32 for a quarter of them, where it is faster. For int8, half of what
    the model quantises must be int8, and the rest fp16.

    Args:
        layers: of the network or of the engine.
        precision: what was asked for.
        is_typed: whether the model dictates the types.
        quantized: how many layers the model quantises; 0 where it does not say, as with a
            calibration cache: then it is all convolutions, or all layers if there are none.

    Raises:
        EngineBuildError: names the layers.

    """
    if precision == "fp32":
        return
    weighted = weighted_layers(layers)
    if not weighted:
        msg = f"nothing shows whether {precision} was built: no layer with weights was found"
        raise EngineBuildError(msg)
    high = [layer.name for layer in weighted if layer.precision not in {"fp16", "int8"}]
    if len(high) > (0 if is_typed else WEAK_FP32_ALLOWED * len(weighted)):
        msg = f"{precision} was asked for, but these layers are not: {_some(high)}"
        raise EngineBuildError(msg)
    judged = [layer for layer in weighted if layer.kind == "Convolution"]
    judged = weighted if quantized or not judged else judged
    other = [layer.name for layer in judged if layer.precision != "int8"]
    found = len(judged) - len(other)
    if precision == "int8" and found < INT8_NEEDED * (quantized or len(judged)):
        msg = f"int8 was asked for, but these layers are not: {_some(other)}"
        raise EngineBuildError(msg)


def has_int8_products(network: Iterable[Layer]) -> bool:
    """Tell whether a network has quantised matrix products, as a transformer's has."""
    return any(layer.kind == "MatrixMultiply" and layer.precision == "int8" for layer in network)


def weighted_layers(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers that do the work and whose precision is known."""
    return [layer for layer in layers if layer.kind in WEIGHTED and layer.precision != UNKNOWN]


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
