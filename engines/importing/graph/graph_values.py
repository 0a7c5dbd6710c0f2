# SPDX-License-Identifier: Apache-2.0
"""In the confined child: look up what makes the tensors of a graph, and its constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx import TensorProto
from onnx.checker import ValidationError

from perception_node.engines.importing.graph.constants import read

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

# Operators whose first output has the values of the first input, or a part of them.
MOVING = {
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
MAX_STEPS = 30
UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


class GraphValues:
    """The tensors of a graph by name."""

    def __init__(self, graph: GraphProto) -> None:
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants: dict[str, float | None] = {}

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that makes a tensor; None for inputs and weights."""
        return self._makers.get(name)

    def constant(self, name: str, steps: int = MAX_STEPS) -> float | None:
        """Return the one number of a constant, NaN for one with several, None for a variable."""
        if name not in self._constants:
            self._constants[name] = None  # stays so in a graph with a circle
            self._constants[name] = self._compute(name, steps)
        return self._constants[name]

    def _compute(self, name: str, steps: int) -> float | None:
        if name in self._weights:
            return _number(self._weights[name])
        node = self.maker(name)
        if node is None or steps <= 0:
            return None
        if node.op_type == "Constant":
            return _constant_of(node)
        values = [self.constant(each, steps - 1) for each in node.input if each]
        if not values or None in values:
            return None
        moves = node.op_type in MOVING or node.op_type == "Cast"
        return values[0] if moves else math.nan

    def limits(self, node: NodeProto) -> tuple[str, float, float] | None:
        """Return input, lowest and highest value of Clip, Relu, Min or Max with constants."""
        if node.op_type == "Relu":
            return node.input[0], 0.0, math.inf
        if node.op_type == "Clip":
            return self._clip(node)
        names = {name: self.constant(name) for name in node.input}
        variables = [name for name, number in names.items() if number is None]
        numbers = [number for number in names.values() if number is not None]
        if len(variables) != 1 or len(numbers) != 1:
            return None
        bounds = (-math.inf, numbers[0]) if node.op_type == "Min" else (numbers[0], math.inf)
        return variables[0], *bounds

    def _clip(self, node: NodeProto) -> tuple[str, float, float]:
        attributes = {each.name: each.f for each in node.attribute}  # before opset 11
        found = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
        for place, name in enumerate(node.input[1:3]):
            if name:
                number = self.constant(name)
                found[place] = math.nan if number is None else number
        return node.input[0], found[0], found[1]

    def casts_to_float(self, node: NodeProto) -> bool:
        """Tell whether a Cast only rounds."""
        return any(each.name == "to" and each.i in FLOATS for each in node.attribute)

    def tests_for_nan(self, name: str) -> bool:
        """Tell whether a tensor says where another one is NaN or infinite."""
        node = self.maker(name)
        if node is not None and node.op_type in {"And", "Or"}:
            return any(self._is_nan_test(each) for each in node.input)
        return self._is_nan_test(name)

    def _is_nan_test(self, name: str) -> bool:
        node = self.maker(name)
        return node is not None and node.op_type in {"IsNaN", "IsInf"}

    def is_sum(self, name: str, steps: int = MAX_STEPS) -> bool:
        """Tell whether a tensor is a sum over an axis, but for a small constant or a limit."""
        node = self.maker(name)
        if node is None or steps <= 0:
            return False
        if node.op_type in {"ReduceSum", "ReduceL1"}:
            return True
        if node.op_type in MOVING | {"Cast", "Clip"}:
            return self.is_sum(node.input[0], steps - 1)
        variables = [each for each in node.input if self.constant(each) is None]
        passes = node.op_type in {"Add", "Max"} and len(variables) == 1
        return passes and self.is_sum(variables[0], steps - 1)

    def reduction(self, name: str, steps: int = MAX_STEPS) -> set[str]:
        """Return the operators behind a tensor that is one number per row; empty if it is none."""
        node = self.maker(name)
        if node is None or steps <= 0:
            return set()
        if node.op_type.startswith("Reduce"):
            return {node.op_type}
        if node.op_type in MOVING | {"Cast", "Log"}:
            found = self.reduction(node.input[0], steps - 1)
            return found | {node.op_type} if found else set()
        if node.op_type not in {"Add", "Max"}:
            return set()
        parts = [
            self.reduction(each, steps // 2) for each in node.input if self.constant(each) is None
        ]
        return set().union(*parts) if all(parts) else set()


def _constant_of(node: NodeProto) -> float:
    for attribute in node.attribute:
        if attribute.name == "value":
            return _number(attribute.t)
        if attribute.name == "value_float":
            return float(attribute.f)
        if attribute.name == "value_int":
            return float(attribute.i)
    return math.nan


def _number(tensor: TensorProto) -> float:
    if math.prod(tensor.dims) != 1:
        return math.nan
    try:
        return float(read(tensor).ravel()[0])
    except (*UNREADABLE, ValidationError):
        return math.nan  # text, or damaged: ONNX Runtime will say so
