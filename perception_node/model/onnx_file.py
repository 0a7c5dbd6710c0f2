# SPDX-License-Identifier: Apache-2.0
"""Look through the bytes of an ONNX file before a parser gets them, without a parser of ONNX.

ONNX Runtime, onnx and TensorRT read weights from other files where a tensor says so, below the
current folder, also if they are given bytes. They make room for what a tensor states before they
look for its values, and protobuf makes a hundred bytes of two. So every message that may hold a
tensor is visited here, as onnx.proto describes it; what is inside a tensor is only measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perception_node.errors import quote
from perception_node.model.onnx_tensor import (
    MAX_RANK,
    MAX_SHOWN,
    NEGATIVE,
    DamagedOnnx,
    RefusedOnnx,
    Span,
    Tensor,
    fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PARTS = 1_000_000  # fields of all messages; a large vision transformer has about 100 000
MAX_DEPTH = 64  # a tensor in a branch in a branch has 12
ORT_FORMAT = b"ORTM"  # from byte 4 on; ONNX Runtime would take it for its own format
SETTINGS = (1, memoryview(b"ort_config"))  # a key of a note
FILE_OPERATORS = {"EPContext"}  # those that name a file

# Operators of a model that is quantised already.
QUANTIZERS = {
    *("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QGemm"),
    *("QLinearConv", "QLinearMatMul", "QuantizeLinear"),
}

# Which field of which message holds another one that is visited.
CHILDREN = {
    "Model": {7: "Graph", 14: "Note", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
}
# What is not visited and may have parts of two bytes: types, lists of integers, and the like.
FINE_GRAINED = {
    "Model": {8, 26},
    "Training": {3, 4},
    "Graph": {11, 12, 13, 14},
    "Function": {9, 12},
    "Node": {10},
    "Attribute": {8, 14, 15},
}
NUMBERS = {7, 8, 9}  # of an attribute: floats, integers, texts
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR = 1, 2, 4
OPSET_IMPORT, OPSET_DOMAIN, OPSET_VERSION = 8, 1, 2
STANDARD_DOMAINS = {b"", b"ai.onnx"}


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """A node of a graph.

    Attributes:
        operator: its name.
        inputs: names of tensors; empty for one that is left out.
        outputs: the same.
        elements: how many numbers its attributes hold.

    """

    operator: str
    inputs: list[str]
    outputs: list[str]
    elements: int


@dataclass(slots=True)
class OnnxContent:
    """What was seen on the way through a file.

    Attributes:
        nodes: of the graph and of all graphs inside it.
        weights: number of elements of each tensor that has a name.
        spans: those of the tensors whose numbers lie in other files.
        has_functions: some operators are written in ONNX themselves.
        opset: version of ONNX's own operators; 0 where it is not stated.

    """

    nodes: list[OnnxNode] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    has_functions: bool = False
    opset: int = 0


def look_through(content: bytes, *, beside: Mapping[str, int] | None = None) -> OnnxContent:
    """Visit all of an ONNX file; it must hold all that it states, and need no other file.

    Args:
        content: the file.
        beside: sizes in bytes of the files, by name, that it may need all the same.

    Raises:
        DamagedOnnx: it is no ONNX file.
        RefusedOnnx: it needs another file, states more than it holds, or has too many parts.

    """
    seen = look_for_files(content)
    for span in seen.spans:
        if beside is None or span.location not in beside:
            raise RefusedOnnx("weights lie in another file; save the model in one file: onnx.save")
        if span.offset + span.length > beside[span.location]:
            raise RefusedOnnx(f"weights end beyond the end of {quote(span.location)}")
    return seen


def look_for_files(content: bytes) -> OnnxContent:
    """Visit all of an ONNX file, which may need other files: ``spans`` says which.

    Raises:
        DamagedOnnx: it is no ONNX file.
        RefusedOnnx: it states more than it holds, or has too many parts.

    """
    if content[4:8] == ORT_FORMAT:
        raise RefusedOnnx("it is in ONNX Runtime's own format; use the ONNX it was made from")
    walk = _Walk()
    try:
        walk.visit("Model", memoryview(content), 0)
    except (IndexError, UnicodeDecodeError) as error:
        raise DamagedOnnx("it is no ONNX, or damaged") from error
    return walk.found


class _Walk:
    """One way through a file."""

    def __init__(self) -> None:
        self.found = OnnxContent()
        self._left = MAX_PARTS
        self._elements = 0

    def visit(self, kind: str, message: memoryview, depth: int) -> None:
        """Visit a message and those in it."""
        if kind == "Sparse":
            raise RefusedOnnx("it has sparse weights; export it with dense ones")
        if depth > MAX_DEPTH:
            raise RefusedOnnx(f"its graphs lie in each other more than {MAX_DEPTH} deep")
        if kind == "Tensor":
            self._tensor(message)
        elif kind == "Node":
            self._node(message, depth)
        elif kind == "Note":
            notes = self._fields(message)
            if any((number, value) == SETTINGS for number, value in notes):
                raise RefusedOnnx("its notes hold settings for ONNX Runtime; remove ort_config")
        else:
            self.found.has_functions |= kind == "Function"
            for number, value in self._fields(message):
                self._part(kind, number, value, depth)

    def _part(self, kind: str, number: int, value: int | memoryview, depth: int) -> None:
        if isinstance(value, int):
            return
        child = CHILDREN[kind].get(number)
        if child is not None:
            self.visit(child, value, depth + 1)
        elif number in FINE_GRAINED[kind]:
            self._count(len(value) // 2)
        if (kind, number) == ("Model", OPSET_IMPORT):
            self._opset(value)
        if kind == "Attribute" and number in NUMBERS:
            self._elements += len(value)

    def _opset(self, message: memoryview) -> None:
        fields = dict(self._fields(message))
        version = fields.get(OPSET_VERSION)
        if fields.get(OPSET_DOMAIN, b"") in STANDARD_DOMAINS and isinstance(version, int):
            self.found.opset = max(self.found.opset, version)

    def _node(self, message: memoryview, depth: int) -> None:
        operator, inputs, outputs, before = "", [], [], self._elements
        for number, value in self._fields(message):
            if isinstance(value, int):
                continue
            if number == NODE_INPUT:
                inputs.append(str(value, "utf-8"))
            elif number == NODE_OUTPUT:
                outputs.append(str(value, "utf-8"))
            elif number == NODE_OPERATOR:
                operator = str(value, "utf-8")
            else:
                self._part("Node", number, value, depth)
        if operator in FILE_OPERATORS:
            raise RefusedOnnx(f"its operator {operator} reads another file; export it without")
        node = OnnxNode(operator, inputs, outputs, self._elements - before)
        self.found.nodes.append(node)

    def _tensor(self, message: memoryview) -> None:
        """Compare what a tensor states with what it holds."""
        tensor = Tensor()
        for number, value in self._fields(message):
            tensor.note(number, value)
        name = ascii(tensor.name)[:MAX_SHOWN]
        if len(tensor.dims) > MAX_RANK or any(axis >= NEGATIVE for axis in tensor.dims):
            raise RefusedOnnx(f"the tensor {name} has more than {MAX_RANK} axes, or one below 0")
        elements = math.prod(tensor.dims)
        if tensor.is_elsewhere:
            self.found.spans.append(tensor.span())
        elif not tensor.holds(elements):
            raise RefusedOnnx(f"the tensor {name} states {tensor.dims} and holds less")
        self.found.weights[tensor.name] = elements
        self._elements += elements

    def _fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yield the fields of a message, and count them."""
        for number, value, _ in fields(message):
            self._count(1)
            yield number, value

    def _count(self, parts: int) -> None:
        self._left -= parts
        if self._left < 0:
            raise RefusedOnnx(f"it is made of more than {MAX_PARTS} parts")
