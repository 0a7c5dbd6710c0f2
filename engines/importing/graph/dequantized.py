# SPDX-License-Identifier: Apache-2.0
"""In the confined child: a quantised model without its quantisers, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.onnx_graph import Constants, all_nodes, attribute
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

QUANTIZE, DEQUANTIZE, DYNAMIC = "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"
INTEGER = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
# What integers may pass on their way, and what makes no other numbers of them.
KEEPING = {
    *("Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool"),
    *("Pad", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
    *("Transpose", "Unsqueeze"),
}
BOUNDED = {"Clip", "HardSigmoid", "Relu", "Sigmoid", "Softmax"}  # their outputs need no cut


def to_float(path: Path, model: ModelProto) -> ModelProto:
    """Return a model of Q/DQ pairs, or a dynamic one, without its quantisers; float32.

    Weights keep the values that their integers stand for.

    Raises:
        ConversionError: something is done to integers that has no counterpart in float.

    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    Floats(path, copy.graph).rewrite()
    drop_unused_domains(copy)
    return copy


class Floats:
    """Takes the quantisers off a graph: a quantised tensor becomes the one it was made of."""

    def __init__(self, path: Path, graph: GraphProto) -> None:
        self._path, self._graph = path, graph
        self._constants = Constants(graph)
        self._maker = {name: node.op_type for node in graph.node for name in node.output}
        self._stands_for: dict[str, str] = {}
        self._integers: set[str] = set()  # what is quantised, by the names of the model
        self._nodes: list[NodeProto] = []

    def rewrite(self) -> None:
        """Do it, in place."""
        for node in self._graph.node:
            copy = type(node).FromString(node.SerializeToString())
            copy.input[:] = [self._stands_for.get(name, name) for name in node.input]
            is_integer = not self._integers.isdisjoint(node.input)
            if node.op_type in {QUANTIZE, DYNAMIC} or (is_integer and node.op_type in KEEPING):
                self._integers.update(node.output if node.op_type in KEEPING else node.output[:1])
            self._take(copy, is_integer=is_integer)
        for each in self._graph.output:
            if source := self._stands_for.get(each.name):
                self._nodes.append(helper.make_node("Identity", [source], [each.name]))
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [each for each in self._graph.initializer if each.name in used]
        kept = [TensorProto.FromString(each.SerializeToString()) for each in kept]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _take(self, node: NodeProto, *, is_integer: bool) -> None:
        source, target = (node.input[0] if node.input else ""), node.output[0]
        if node.op_type == QUANTIZE:
            self._stands_for[target] = self._clipped(node)
        elif is_integer and node.op_type in {DEQUANTIZE, "Clip"}:  # to the range of the integers
            self._stands_for[target] = source
        elif node.op_type == DEQUANTIZE:
            self._stands_for[target] = self.dequantize(node)
        elif node.op_type == DYNAMIC:
            self._stands_for[target] = source
            for name, value in zip(node.output[1:], (np.float32(1), np.uint8(0)), strict=False):
                self._add(name, np.array(value))
        elif node.op_type in INTEGER:
            zeros = [*node.input[2:], "", ""]
            factors = [self._less(node.input[place], zeros[place]) for place in range(2)]
            node.op_type, node.input[:] = INTEGER[node.op_type], factors
            self._nodes.append(node)
        else:
            self._nodes.append(node)

    def _clipped(self, node: NodeProto) -> str:
        """Return what a quantiser reads, without what lies below 0, or above, if it cuts that off.

        Quantisers with an end of the range at 0 stand for the ReLU or ReLU6 before them, too.
        """
        source, scale, *zero = map(str, node.input)
        if self._maker.get(source) in BOUNDED or scale not in self._constants:
            return source
        step = self._constants.value(scale)
        offset = self._constants.value(zero[0]) if zero and zero[0] else np.zeros((), np.uint8)
        limits = np.iinfo(offset.dtype)
        if step.size > 1 or offset.flat[0] not in {limits.min, limits.max}:
            return source
        names = [f"{node.output[0]}_{end}" for end in ("lowest", "highest")]
        for name, limit in zip(names, (limits.min, limits.max), strict=True):
            self._add(name, ((limit - offset.astype(np.int32)) * step).reshape(()))
        target = f"{node.output[0]}_clipped"
        self._nodes.append(helper.make_node("Clip", [source, *names], [target]))
        return target

    def dequantize(self, node: NodeProto) -> str:
        """Return the name of what a DequantizeLinear makes of constants, added as float32."""
        source, scale, *zero = node.input
        if not all(name in self._constants for name in (source, scale, *zero) if name):
            problem = (
                f"{ascii(source)[:80]} is dequantised though nothing has quantised it, so its "
                "float model cannot be worked out; give it: --float-parent BUNDLE"
            )
            raise ConversionError(self._path, problem)
        values = self._constants.value(source)
        scales = _spread(self._constants.value(scale), values.ndim, node)
        zeros = self._constants.value(zero[0]) if zero and zero[0] else np.zeros((), np.int32)
        offset = _spread(zeros.astype(np.int32), values.ndim, node)
        return self._add(f"{node.output[0]}_value", (values.astype(np.int32) - offset) * scales)

    def _less(self, name: str, zero: str) -> str:
        """Return a factor of an integer product less its zero point, as float."""
        if name not in self._constants:
            return name
        values = self._constants.value(name).astype(np.int32)
        if zero in self._constants:
            values = values - self._constants.value(zero)
        return self._add(f"{name}_less_zero", values)

    def _add(self, name: str, values: NDArray[Any]) -> str:
        kind = values.dtype if values.dtype == np.uint8 else np.float32
        self._graph.initializer.append(numpy_helper.from_array(values.astype(kind), name))
        return name


def _spread(values: NDArray[Any], axes: int, node: NodeProto) -> NDArray[Any]:
    """Give a scale or zero point per channel the shape that multiplies along its axis."""
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    axis = attribute(node, "axis", 1) % axes
    if block := attribute(node, "block_size", 0):
        return np.repeat(values, block, axis=axis)
    return values.reshape([-1 if place == axis else 1 for place in range(axes)])


def drop_unused_domains(model: ModelProto) -> None:
    """Forget domains that no operator is of; ONNX's own stays."""
    used = {node.domain for node in all_nodes(model.graph)}
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain not in used | {"", "ai.onnx"}:
            del model.opset_import[index]
