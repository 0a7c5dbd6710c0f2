# SPDX-License-Identifier: Apache-2.0
"""A float32 ONNX model and activation ranges become int8 models with Q/DQ nodes, in two flavours.

For TensorRT: symmetric scales, per channel on the weights of convolutions, per tensor on what
enters them, none between a convolution and its activation or addition, none on a bias. Depthwise
convolutions stay float: quantised, the plan of EfficientNet-Lite0 has 19 MB instead of 11
(TensorRT-RTX 1.7.1, as if each were padded to a dense one), and its answers are worse.
TensorRT fuses convolution, addition and activation only if the shortcut of a residual block is
quantised too. Where the shortcut is a convolution of its own, that takes one more pair of nodes.

For ONNX Runtime on a CPU: unsigned activations with a zero point, signed weights per channel, and
all between two convolutions quantised as well. That is what its int8 kernels want: EfficientNet-
Lite0 runs in 0.57 of the float32 time on a CPU with VNNI; with signed activations 0.87, with
unsigned weights 5.4. The last layers stay float32 in both.

Of a transformer, both have its convolutions and matrix products with weights (matrix_products.py),
and nothing between them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper, version_converter
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from perception_node.calibration.bias_correction import (
    CONVOLUTION,
    correct_biases,
)
from perception_node.calibration.matrix_products import (
    MATRIX_PRODUCTS,
    forget_others,
    matrix_products,
    other_products,
)
from perception_node.calibration.shortcuts import quantize_shortcuts
from perception_node.engines.onnx_graph import PER_CHANNEL_FROM, opset_version, sort_nodes
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError, EngineBuildError, first_line
from perception_node.model.onnx_file import QUANTIZERS, look_through

if TYPE_CHECKING:
    from collections.abc import Collection

    from perception_node.calibration.bias_correction import Means
    from perception_node.calibration.ranges import Ranges
    from perception_node.untyped import OrtObject

FOR_TENSORRT = [CONVOLUTION]  # a fully connected layer at batch 1 gains nothing
FOR_CPU = [CONVOLUTION, "Add", "AveragePool", "Clip", "Concat", "MaxPool", "Mul", "Relu"]
# Between the layers of a transformer, a few values are so large that 8 bits do not do.
FOR_TRANSFORMERS = [CONVOLUTION, *MATRIX_PRODUCTS]
ACTIVATIONS = {"Clip", "Relu"}  # a convolution's rounding does them on the CPU


def prepare(model: bytes) -> onnx.ModelProto:
    """Return the model that ranges are measured on and that both flavours are made of.

    Batch normalisations are folded, all nodes named, the shapes of all that is measured known.

    Raises:
        EngineBuildError: the model has no convolution, or is none that ONNX Runtime can load.
        CalibrationError: a weight is NaN or infinite.

    """
    try:
        look_through(model)
        proto = onnx.load_model_from_string(model)
        _require_float(proto)
        if opset_version(proto) < PER_CHANNEL_FROM:
            proto = version_converter.convert_version(proto, PER_CHANNEL_FROM)
        folded = _fold(proto.SerializeToString())
    except EngineBuildError:
        raise
    except Exception as error:
        msg = f"the model cannot be quantised: {first_line(error)}"
        raise EngineBuildError(msg) from error
    used = {node.domain for node in folded.graph.node}
    for index in reversed(range(len(folded.opset_import))):
        if folded.opset_import[index].domain not in used:
            del folded.opset_import[index]  # ONNX Runtime names all it knows
    for node in folded.graph.node:
        node.name = node.name or node.output[0]
    _check_weights(folded)
    prepared = onnx.shape_inference.infer_shapes(folded)
    if not quantizable(prepared):
        msg = (
            "the model has no convolution, and no matrix product of several rows: there is "
            "nothing to quantise, build it as fp16"
        )
        raise EngineBuildError(msg)
    if matrix_products(prepared):
        forget_others(prepared)
    return prepared


def convolutions(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions of a prepared model, in their order."""
    return [node.name for node in prepared.graph.node if node.op_type == CONVOLUTION]


def quantizable(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the layers of a prepared model that can be int8, in their order."""
    wanted = {*convolutions(prepared), *matrix_products(prepared)}
    return [node.name for node in prepared.graph.node if node.name in wanted]


def quantize_for_tensorrt(
    prepared: onnx.ModelProto,
    ranges: Ranges,
    exclude: Collection[str] = (),
    *,
    means: Means | None = None,
) -> bytes:
    """Return the int8 model for TensorRT; the same arguments give the same bytes.

    Args:
        prepared: what ``prepare`` returned; it is not changed.
        ranges: smallest and largest value of each tensor.
        exclude: names of convolutions that stay float.
        means: what ``bias_correction.channel_means`` returned; without them, no bias is changed.

    Raises:
        CalibrationError: the ranges are those of another model.

    """
    options = {
        "ActivationSymmetric": True,  # TensorRT has no zero points
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": False,  # so that a shortcut reads what the convolution reads
        "OpTypesToExcludeOutputQuantization": sorted({n.op_type for n in prepared.graph.node}),
    }
    alone = {*exclude, *_depthwise(prepared), *other_products(prepared)}
    copy = _corrected(prepared, means, alone)
    kind, operations = QuantType.QInt8, FOR_TENSORRT
    if matrix_products(prepared):
        operations = FOR_TRANSFORMERS
    quantized = _quantize(copy, ranges, alone, operations, activations=kind, options=options)
    quantize_shortcuts(quantized.graph, ranges)
    return _serialize(quantized)


def quantize_for_cpu(
    prepared: onnx.ModelProto,
    ranges: Ranges,
    exclude: Collection[str] = (),
    *,
    means: Means | None = None,
) -> bytes:
    """Return the int8 model for ONNX Runtime; see ``quantize_for_tensorrt``.

    Weights use all 8 bits. A CPU with neither VNNI nor NEON (before 2019) adds such products with
    saturation, which costs accuracy there: judge the model on the machine that runs it.
    """
    alone = [*exclude, *activations_of(prepared, exclude)]
    kind, operations = QuantType.QUInt8, FOR_CPU
    options: dict[str, object] = {}
    if matrix_products(prepared):
        alone += [*_depthwise(prepared), *other_products(prepared)]
        operations = FOR_TRANSFORMERS
        options["OpTypesToExcludeOutputQuantization"] = list(MATRIX_PRODUCTS)
    copy = _corrected(prepared, means, alone)
    quantized = _quantize(copy, ranges, alone, operations, activations=kind, options=options)
    _keep_float(quantized.graph, exclude)
    return _serialize(quantized)


def _corrected(
    prepared: onnx.ModelProto, means: Means | None, exclude: Collection[str]
) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(prepared)
    if means is not None:
        correct_biases(copy, means, exclude)
    return copy


def _depthwise(model: onnx.ModelProto) -> list[str]:
    """Return the names of convolutions that see one channel at a time."""
    weights = {each.name: each.dims for each in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == CONVOLUTION
        and any(each.name == "group" and each.i > 1 for each in node.attribute)
        and list(weights.get(node.input[1], [0, 0]))[1] == 1
    ]


def activations_of(model: onnx.ModelProto, names: Collection[str]) -> list[str]:
    """Return the names of activations right behind these convolutions, to be float like them."""
    outputs = {node.output[0] for node in model.graph.node if node.name in names}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ACTIVATIONS and node.input[0] in outputs
    ]


def _quantize(
    copy: onnx.ModelProto,
    ranges: Ranges,
    exclude: Collection[str],
    operations: list[str],
    *,
    activations: OrtObject,
    options: dict[str, object],
) -> onnx.ModelProto:
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activations,
        tensors_range=_tensors_data(ranges),
        nodes_to_quantize=[],  # all of them
        nodes_to_exclude=sorted(exclude),
        op_types_to_quantize=operations,
        extra_options=options,
    )
    try:
        quantizer.quantize_model()
    except (AssertionError, ValueError) as error:
        msg = f"the calibration does not fit the model: {first_line(error)}"
        raise CalibrationError(f"{msg}; calibrate this model anew") from error
    quantized: onnx.ModelProto = quantizer.model.model
    sort_nodes(quantized.graph)
    return quantized


def _tensors_data(ranges: Ranges) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: (np.array(lowest, np.float32), np.array(highest, np.float32))
            for name, (lowest, highest) in ranges.items()
        },
    )


def _serialize(model: onnx.ModelProto) -> bytes:
    """Return the bytes, without unused constants, once no scale is 0, infinite or NaN."""
    used = {name for node in model.graph.node for name in node.input}
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in used:
            del model.graph.initializer[index]
    values = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            scale = numpy_helper.to_array(values[node.input[1]])
            if not (np.isfinite(scale).all() and (scale > 0).all()):
                msg = f"{node.input[0]}: the scale is 0 or not finite; calibrate anew"
                raise CalibrationError(msg)
    return bytes(model.SerializeToString(deterministic=True))


def _require_float(model: onnx.ModelProto) -> None:
    if any(node.op_type in QUANTIZERS for node in model.graph.node):
        msg = "the model is quantised already; import it again as int8: perception import FILE"
        raise EngineBuildError(msg)


def _check_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            msg = f"{tensor.name}: the model's weights hold NaN or infinite values"
            raise CalibrationError(f"{msg}; export the model again")


def _fold(model: bytes) -> onnx.ModelProto:
    """Let ONNX Runtime simplify a model; run it once, where its memory has a limit."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        session = open_session(model, options)
        size = [axis if isinstance(axis, int) else 1 for axis in session.get_inputs()[0].shape]
        session.run(None, {session.get_inputs()[0].name: np.zeros(size, np.float32)})
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


def _keep_float(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Put an operation that changes nothing behind these convolutions.

    ONNX Runtime 1.32 quantises the weights of each convolution between dequantised and quantised
    values, per tensor and however poorly, but not across an activation. It fuses this one.
    """
    places = [index for index, node in enumerate(graph.node) if node.name in names]
    for index in reversed(places):
        output = graph.node[index].output[0]
        graph.node[index].output[0] = f"{output}_float"
        graph.node.insert(
            index + 1,
            onnx.helper.make_node(
                "LeakyRelu", [f"{output}_float"], [output], name=f"{output}_kept", alpha=1.0
            ),
        )
