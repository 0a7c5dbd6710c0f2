# SPDX-License-Identifier: Apache-2.0
"""A float32 ONNX model becomes one that computes in float16, for strongly typed TensorRT.

The converter is the one that ships with ONNX Runtime, which is here anyway; onnxconverter-common
gives the same numbers. EfficientNet-Lite0's logits differ from float32 by 0.3 % of their range at
most, over 250 photos (``tests/accuracy/test_precisions.py``).

For TensorRT only: ONNX Runtime 1.32 computes nonsense from float16 scales of Q/DQ nodes, unless
its graph optimisations are off.
"""

from __future__ import annotations

import onnx
from onnx import version_converter
from onnxruntime.transformers.float16 import convert_float_to_float16

from perception_node.engines.onnx_graph import opset_version, sort_nodes
from perception_node.errors import EngineBuildError, first_line
from perception_node.model.onnx_file import look_through

QUANTIZE = "QuantizeLinear"
FLOAT16_SCALES_FROM = 19  # the opset from which on the scales of a quantised model may be float16


def to_half_precision(model: bytes) -> bytes:
    """Return a float32 ONNX model with float16 inside and float32 input and output.

    A model with Q/DQ nodes keeps what is int8; what is float32 around it becomes float16. The
    same bytes give the same bytes.

    Raises:
        EngineBuildError: the bytes are no ONNX model that can be converted.

    """
    try:
        look_through(model)
        converted = _convert(onnx.load_model_from_string(model))
        return bytes(converted.SerializeToString(deterministic=True))
    except Exception as error:
        msg = f"the model cannot be converted to float16: {first_line(error)}"
        raise EngineBuildError(msg) from error


def _convert(model: onnx.ModelProto) -> onnx.ModelProto:
    is_quantized = any(node.op_type == QUANTIZE for node in model.graph.node)
    if is_quantized and opset_version(model) < FLOAT16_SCALES_FROM:
        model = version_converter.convert_version(model, FLOAT16_SCALES_FROM)
    model = convert_float_to_float16(model, keep_io_types=True)
    sort_nodes(model.graph)
    onnx.checker.check_model(model)
    return model
