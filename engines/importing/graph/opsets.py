# SPDX-License-Identifier: Apache-2.0
"""In the confined child: raise an old model to an opset that every TensorRT reads."""

from __future__ import annotations

from onnx import ModelProto, version_converter

from perception_node.engines.importing.graph.loading import COMMON_OPSET
from perception_node.engines.onnx_graph import opset_version

OLD = 13  # below, quantised weights have no scale per channel, and TensorRT 8.6 begins at 9


def raised(model: ModelProto) -> ModelProto | None:
    """Return an old model in a newer opset; None where it is new enough or cannot be raised."""
    if opset_version(model) >= OLD:
        return None
    try:
        return version_converter.convert_version(model, COMMON_OPSET)
    except Exception:  # noqa: BLE001 - it documents none; the model is then left as it is
        return None
