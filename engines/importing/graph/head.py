# SPDX-License-Identifier: Apache-2.0
"""In the confined child: what a graph's output is, read from the operators that make it.

The output is followed back through everything that only moves, rounds, scales or shifts its
values, up to the operator that decides: a softmax, a sigmoid or a linear layer, each also spelled
out in elementary operators. ``output_kind`` compares the answer with the values on images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from perception_node.engines.importing.graph.graph_values import MOVING, GraphValues
from perception_node.engines.importing.graph.head_value import DECIDING, Value, fits, together
from perception_node.engines.importing.output_kind import POOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import GraphProto, NodeProto

    from perception_node.engines.importing.graph.head_value import Form
    from perception_node.model.bundle import OutputKind

KINDS: dict[Form, OutputKind] = {
    "linear": "logits",
    "log-probabilities": "logits",  # their softmax is the probabilities
    "probabilities": "probabilities",
    "sigmoid": "sigmoid",
}
LAYERS = {
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Einsum",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
}
OF_TWO = {"Div", "Mul", "Sub"}
QUANTISERS = {"QuantizeLinear", "DequantizeLinear"}
MAX_STEPS = 60  # between the output and what decides


class Head(NamedTuple):
    """What a graph's output is.

    Attributes:
        kind: None where the graph does not show it.
        operator: ONNX's name of the operator that decides, or at which the search ended; empty
            for an input.
        rounded: a quantiser comes behind it, so that probabilities need not add up to 1.

    """

    kind: OutputKind | None
    operator: str
    rounded: bool


def find_head(graph: GraphProto, output: str) -> Head:
    """Return what the tensor ``output`` of a graph with ONNX's own operators is."""
    value = _Tracer(graph).follow(output, MAX_STEPS)
    kind = KINDS.get(value.form)
    if value.form == "sigmoid" and not (value.is_plain or value.is_turned):
        kind = None
    if value.form == "log-probabilities" and not math.isclose(value.scale, 1.0):
        kind = None
    return Head(kind, value.operator, value.rounded)


class _Tracer:
    """Follows tensors back; each is looked at once."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = GraphValues(graph)
        self._seen: dict[str, Value] = {}
        self._rules: dict[str, Callable[[NodeProto, int], Value]] = {
            **dict.fromkeys(MOVING, self._move),
            **dict.fromkeys(POOLS, self._pool),
            **dict.fromkeys(QUANTISERS, self._quantise),
            **dict.fromkeys(("Clip", "Relu", "Min", "Max"), self._limit),
            **dict.fromkeys(("Add", "Sum", "Mean"), self._add),
            "BatchNormalization": self._normalise,
            "Cast": self._cast,
            "Concat": self._concat,
            "Div": self._divide,
            "Exp": self._exp,
            "Log": self._log,
            "Mul": self._multiply,
            "Neg": lambda node, steps: self._first(node, steps).affine(-1.0, 0.0),
            "Reciprocal": lambda node, steps: self._invert(node, 1.0, self._first(node, steps)),
            "ReduceSum": self._reduce_sum,
            "Sub": self._subtract,
            "Where": self._where,
        }

    def follow(self, name: str, steps: int) -> Value:
        """Return what a tensor holds; the search ends after ``steps`` operators."""
        node = self._graph.maker(name)
        if node is None:
            return Value("unknown", "")
        if name not in self._seen:
            self._seen[name] = Value("unknown", node.op_type)  # stays so in a graph with a circle
            self._seen[name] = self._apply(node, steps - 1)
        return self._seen[name]

    def _apply(self, node: NodeProto, steps: int) -> Value:
        operator = node.op_type
        if operator in LAYERS:
            return Value("linear", operator)
        if operator in DECIDING:
            return DECIDING[operator]
        rule = self._rules.get(operator)
        is_short = len(node.input) < (2 if operator in OF_TWO else 1)
        if rule is None or steps <= 0 or is_short:
            return Value("unknown", operator)
        return rule(node, steps)

    def _first(self, node: NodeProto, steps: int) -> Value:
        return self.follow(node.input[0], steps)

    def _move(self, node: NodeProto, steps: int) -> Value:
        """Take parts and other shapes for the whole: the values on images check it."""
        return self._first(node, steps)

    def _cast(self, node: NodeProto, steps: int) -> Value:
        value = self._first(node, steps)
        return value if self._graph.casts_to_float(node) else value.unknown("Cast")

    def _quantise(self, node: NodeProto, steps: int) -> Value:
        return self._first(node, steps)._replace(rounded=True)

    def _pool(self, node: NodeProto, steps: int) -> Value:
        """Pooled activations are logits, as in SqueezeNet; pooled scores stay scores."""
        value = self._first(node, steps)
        return Value("linear", node.op_type) if value.form == "unknown" else value

    def _reduce_sum(self, node: NodeProto, steps: int) -> Value:
        value = self._first(node, steps)
        return value if value.form in {"linear", "probabilities"} else value.unknown("ReduceSum")

    def _normalise(self, node: NodeProto, steps: int) -> Value:
        value = self._first(node, steps)
        return value if value.form == "linear" else value.unknown(node.op_type)

    def _limit(self, node: NodeProto, steps: int) -> Value:
        """Clip, or one of its sides; a linear layer between 0 and a limit is a hard sigmoid."""
        limits = self._graph.limits(node)
        if limits is None:
            return Value("unknown", node.op_type)
        source, lowest, highest = limits
        value = self.follow(source, steps)
        if value.form == "linear" and lowest >= 0.0 and math.isfinite(highest):
            return Value("sigmoid", node.op_type, highest - lowest, lowest, value.rounded)
        return value if fits(value, lowest, highest) else value.unknown(node.op_type)

    def _multiply(self, node: NodeProto, steps: int) -> Value:
        for one, other in (node.input[:2], node.input[1::-1]):
            factor = self._graph.constant(one)
            if factor is not None:
                return self.follow(other, steps).affine(factor, 0.0)
            inverse = self._graph.maker(one)
            if inverse is not None and inverse.op_type == "Reciprocal":
                return self._normalised(node, self.follow(other, steps), inverse.input[0])
        return self._first(node, steps).unknown("Mul")

    def _divide(self, node: NodeProto, steps: int) -> Value:
        above, below = (self._graph.constant(name) for name in node.input[:2])
        if below is not None:
            factor = 1.0 / below if below else math.nan
            return self._first(node, steps).affine(factor, 0.0)
        divisor = self.follow(node.input[1], steps)
        if above is not None:
            return self._invert(node, above, divisor)
        value = self._first(node, steps)
        is_one_more = value.offset == 0.0 and divisor.offset > 0.0  # e^x / (e^x + 1)
        if value.form == divisor.form == "exp" and is_one_more and value.scale == divisor.scale:
            return Value("sigmoid", "Exp")
        return self._normalised(node, value, node.input[1])

    def _normalised(self, node: NodeProto, value: Value, divisor: str) -> Value:
        """Return what dividing by a sum makes of values: they then add up to 1."""
        if self._graph.is_sum(divisor):
            return Value("probabilities", "Exp" if value.form == "exp" else "ReduceSum")
        return value.unknown(node.op_type)

    def _invert(self, node: NodeProto, above: float, value: Value) -> Value:
        """``1 / (1 + e^x)`` is a sigmoid."""
        if value.form == "exp" and value.scale > 0.0 and math.isclose(value.offset, above):
            return Value("sigmoid", "Exp")
        return value.unknown(node.op_type)

    def _add(self, node: NodeProto, steps: int) -> Value:
        constants = [self._graph.constant(name) for name in node.input]
        values = self._variables(node, steps)
        if len(values) == 1 and node.op_type != "Mean":
            return values[0].affine(1.0, sum(c for c in constants if c is not None))
        return together(values, {"linear", "probabilities"}, node.op_type)

    def _subtract(self, node: NodeProto, steps: int) -> Value:
        above, below = (self._graph.constant(name) for name in node.input[:2])
        if below is not None:
            return self._first(node, steps).affine(1.0, -below)
        if above is not None:
            return self.follow(node.input[1], steps).affine(-1.0, above)
        value, passed = self._first(node, steps), self._graph.reduction(node.input[1])
        if value.form == "linear" and any("Log" in operator for operator in passed):
            return Value("log-probabilities", "Log", rounded=value.rounded)
        if value.form in {"linear", "log-probabilities"} and passed:  # the same for all classes
            return value
        return together(self._variables(node, steps), {"linear"}, "Sub")

    def _exp(self, node: NodeProto, steps: int) -> Value:
        value = self._first(node, steps)
        if value.form == "linear":
            return Value("exp", "Exp")
        inverse: dict[Form, Form] = {
            "log-probabilities": "probabilities",
            "log-sigmoid": "sigmoid",
        }
        if value.form in inverse and value.is_plain:
            return value._replace(form=inverse[value.form])
        return value.unknown("Exp")

    def _log(self, node: NodeProto, steps: int) -> Value:
        value = self._first(node, steps)
        if value.form == "probabilities" and value.is_plain:
            return value._replace(form="log-probabilities")
        if value.form == "sigmoid" and value.is_plain:
            return value._replace(form="log-sigmoid")
        return value.unknown("Log")

    def _concat(self, node: NodeProto, steps: int) -> Value:
        """Join heads of one form; ``1 - p`` beside ``p`` is one class or the other."""
        values = self._variables(node, steps)
        if not values or any(value.form != "sigmoid" for value in values):
            return together(values, {"linear", "probabilities"}, "Concat")
        if not all(value.is_plain or value.is_turned for value in values):
            return Value("unknown", "Concat")
        turned = sorted(value.is_turned for value in values)
        form: Form = "probabilities" if turned == [False, True] else "sigmoid"
        return Value(form, values[0].operator)

    def _where(self, node: NodeProto, steps: int) -> Value:
        """Two ways to the same scores; or a constant in the place of NaN and infinities."""
        numbers = [self._graph.constant(name) for name in node.input[1:]]
        if numbers.count(None) != len(numbers) and not self._graph.tests_for_nan(node.input[0]):
            return Value("unknown", "Where")
        values = [
            self.follow(name, steps)
            for name, number in zip(node.input[1:], numbers, strict=True)
            if number is None
        ]
        is_same = len({(value.form, value.scale, value.offset) for value in values}) == 1
        return values[0] if is_same else Value("unknown", "Where")

    def _variables(self, node: NodeProto, steps: int) -> list[Value]:
        """Return what those inputs hold that are no constants."""
        names = [name for name in node.input if self._graph.constant(name) is None]
        return [self.follow(name, steps) for name in names]
