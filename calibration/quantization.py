# SPDX-License-Identifier: Apache-2.0
"""A float32 ONNX model becomes an int8 one in the way that TensorRT wants it.

Explicit Q/DQ nodes with symmetric scales: per channel on the weights of convolutions, per tensor
on what enters them, none between a convolution and its activation or addition, none on a bias.
TensorRT fuses convolution, addition and activation only if the shortcut of a residual block is
quantised too. Where the shortcut is a convolution of its own, that takes one more pair of nodes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from perception_node.engines.onnx_graph import opset_version, sort_nodes
from perception_node.errors import ConfigError, EngineBuildError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from onnxruntime.quantization import TensorsData

QUANTIZED_OPERATIONS = ["Conv"]  # a fully connected layer at batch 1 gains nothing
PER_CHANNEL_FROM = 13  # the opset from which on scales may be per channel
LARGEST_INT8 = 127
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
LOG_FATAL_ONLY = 4


def quantize(model: bytes, batches: Iterable[NDArray[np.float32]]) -> bytes:
    """Return an int8 model with Q/DQ nodes, its ranges the largest magnitudes seen (MinMax).

    Args:
        model: float32 ONNX with one input and one output; they keep names, shapes and types.
        batches: inputs for the model, float32 (1, 3, height, width), filled by the node's own
            preprocessing.

    Raises:
        ConfigError: there are no batches.
        EngineBuildError: the model has no convolution, or is none that ONNX Runtime can load.

    """
    prepared = _prepare(model)
    if not any(node.op_type in QUANTIZED_OPERATIONS for node in prepared.graph.node):
        msg = "the model has no convolution: there is nothing to quantise, build it as fp16"
        raise EngineBuildError(msg)
    ranges = _calibrate(prepared, batches)
    quantizer = QDQQuantizer(
        prepared,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],  # all of them
        nodes_to_exclude=[],
        op_types_to_quantize=QUANTIZED_OPERATIONS,
        extra_options={
            "ActivationSymmetric": True,  # TensorRT has no zero points
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": False,  # so that a shortcut reads what the convolution reads
            "OpTypesToExcludeOutputQuantization": sorted({n.op_type for n in prepared.graph.node}),
        },
    )
    quantizer.quantize_model()
    quantized: onnx.ModelProto = quantizer.model.model
    sort_nodes(quantized.graph)
    _quantize_shortcuts(quantized.graph, ranges)
    return bytes(quantized.SerializeToString(deterministic=True))


class _Batches(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """Hands the batches to ONNX Runtime one by one, and counts them."""

    def __init__(self, name: str, batches: Iterable[NDArray[np.float32]]) -> None:
        self.count = 0
        self._name = name
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        self.count += 1
        return {self._name: batch}


def _prepare(model: bytes) -> onnx.ModelProto:
    """Return the model with its batch normalisations folded and all shapes known."""
    try:
        proto = onnx.load_model_from_string(model)
        if opset_version(proto) < PER_CHANNEL_FROM:
            proto = version_converter.convert_version(proto, PER_CHANNEL_FROM)
        folded = _fold(proto.SerializeToString())
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        msg = f"the model cannot be quantised: {lines[0][:300]}"
        raise EngineBuildError(msg) from error
    used = {node.domain for node in folded.graph.node}
    for index in reversed(range(len(folded.opset_import))):
        if folded.opset_import[index].domain not in used:
            del folded.opset_import[index]  # ONNX Runtime names all it knows
    return onnx.shape_inference.infer_shapes(folded)


def _fold(model: bytes) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = LOG_FATAL_ONLY
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _calibrate(model: onnx.ModelProto, batches: Iterable[NDArray[np.float32]]) -> TensorsData:
    """Return the smallest and largest value of each tensor before and behind a convolution."""
    reader = _Batches(model.graph.input[0].name, batches)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        calibrator = create_calibrator(
            source,
            QUANTIZED_OPERATIONS,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        try:
            calibrator.collect_data(reader)
        except ValueError as error:
            if reader.count:
                raise
            msg = "there are no images to calibrate with"
            raise ConfigError(msg) from error
        return calibrator.compute_data()


def _quantize_shortcuts(graph: onnx.GraphProto, ranges: TensorsData) -> None:
    """Put Q/DQ before each addition of two convolutions, on the branch that is the shortcut."""
    maker = {name: node for node in graph.node for name in node.output}
    depth: dict[str, int] = {}
    for node in graph.node:
        below = max((depth.get(name, 0) for name in node.input), default=0) + 1
        depth.update(dict.fromkeys(node.output, below))
    for addition in [node for node in graph.node if node.op_type == "Add"]:
        makers = [maker[name].op_type for name in addition.input if name in maker]
        if makers == ["Conv", "Conv"]:
            shortcut = min(addition.input, key=depth.__getitem__)
            _insert_pair(graph, addition, shortcut, _scale(ranges, shortcut))


def _scale(ranges: TensorsData, tensor: str) -> NDArray[np.float32]:
    largest = float(np.max(np.abs(ranges[tensor].range_value)))
    return np.array(max(largest / LARGEST_INT8, SMALLEST_SCALE), np.float32)


def _insert_pair(
    graph: onnx.GraphProto, reader: onnx.NodeProto, tensor: str, scale: NDArray[np.float32]
) -> None:
    """Let one reader of a tensor read it quantised and dequantised."""
    names = {part: f"{tensor}_Shortcut{part}" for part in ("Scale", "Zero", "Quantized", "Value")}
    parameters = [names["Scale"], names["Zero"]]
    graph.initializer.append(numpy_helper.from_array(scale, names["Scale"]))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), names["Zero"]))
    pair = [
        onnx.helper.make_node("QuantizeLinear", [tensor, *parameters], [names["Quantized"]]),
        onnx.helper.make_node(
            "DequantizeLinear", [names["Quantized"], *parameters], [names["Value"]]
        ),
    ]
    place = next(i for i, node in enumerate(graph.node) if node.output == reader.output)
    for offset, node in enumerate(pair):
        node.name = node.output[0]
        graph.node.insert(place + offset, node)
    inputs = [names["Value"] if name == tensor else name for name in reader.input]
    added = graph.node[place + len(pair)]
    del added.input[:]
    added.input.extend(inputs)
