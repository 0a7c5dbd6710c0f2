# SPDX-License-Identifier: Apache-2.0
"""Look through the bytes of an ONNX file before a parser gets them, without a parser of ONNX.

ONNX Runtime, onnx and TensorRT read weights from other files where a tensor says so, below the
current folder, also if they are given bytes. They make room for what a tensor states before they
look for its values, and protobuf makes a hundred bytes of two. So every message that may hold a
tensor is visited here, as onnx.proto describes it; what is inside a tensor is only measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PARTS = 1_000_000  # fields of all messages; a large vision transformer has about 100 000
MAX_DEPTH = 64  # a tensor in a branch in a branch has 12
MAX_RANK = 32
MAX_SHOWN = 80  # characters of a name
ORT_FORMAT = b"ORTM"  # from byte 4 on; ONNX Runtime would take it for its own format
SETTINGS = (1, memoryview(b"ort_config"))  # a key of a note
FILE_OPERATORS = {"EPContext"}  # those that name a file

# Operators of a model that is quantised already.
QUANTIZERS = {
    *("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QGemm"),
    *("QLinearConv", "QLinearMatMul", "QuantizeLinear"),
}

VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5  # wire types of protobuf
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
DIMS, DATA_TYPE, STRINGS, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 6, 8, 9, 13, 14
STRING_TYPE = 8
# Bits of an element by its type; a type that is not here is newer and has at least two.
BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
}
SMALLEST_BITS = 2
WHOLE = (RAW, 4, 10)  # fields of a tensor with all bits of its numbers: raw, floats, doubles
INTEGERS = (5, 7, 11)  # fields with numbers of any length
NEGATIVE = 1 << 63


class DamagedOnnx(ValueError):
    """The bytes are not those of an ONNX file."""


class RefusedOnnx(ValueError):
    """The file holds what no model of this package needs and what does harm; one line."""


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
        has_functions: some operators are written in ONNX themselves.

    """

    nodes: list[OnnxNode] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    has_functions: bool = False


def look_through(content: bytes) -> OnnxContent:
    """Visit all of an ONNX file; it must need no other file and hold all that it states.

    Raises:
        DamagedOnnx: it is no ONNX file.
        RefusedOnnx: it needs another file, states more than it holds, or has too many parts.

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
        if kind == "Attribute" and number in NUMBERS:
            self._elements += len(value)

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
        tensor = _Tensor()
        for number, value in self._fields(message):
            tensor.note(number, value)
        name = ascii(tensor.name)[:MAX_SHOWN]
        if tensor.is_elsewhere:
            raise RefusedOnnx(
                f"the weights {name} lie in another file; save the model in one file: onnx.save"
            )
        if len(tensor.dims) > MAX_RANK or any(axis >= NEGATIVE for axis in tensor.dims):
            raise RefusedOnnx(f"the tensor {name} has more than {MAX_RANK} axes, or one below 0")
        elements = math.prod(tensor.dims)
        if not tensor.holds(elements):
            raise RefusedOnnx(f"the tensor {name} states {tensor.dims} and holds less")
        self.found.weights[tensor.name] = elements
        self._elements += elements

    def _fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yield the fields of a message: their numbers and values."""
        position, end = 0, len(message)
        while position < end:
            self._count(1)
            tag, position = _varint(message, position)
            wire = tag & 7
            if wire == VARINT:
                value, position = _varint(message, position)
                yield tag >> 3, value
                continue
            if wire == COUNTED:
                size, position = _varint(message, position)
            elif wire in {EIGHT_BYTES, FOUR_BYTES}:
                size = 8 if wire == EIGHT_BYTES else 4
            else:
                raise DamagedOnnx("it is no ONNX, or damaged")
            if position + size > end:
                raise DamagedOnnx("it is no ONNX, or damaged: it is cut off")
            yield tag >> 3, message[position : position + size]
            position += size

    def _count(self, parts: int) -> None:
        self._left -= parts
        if self._left < 0:
            raise RefusedOnnx(f"it is made of more than {MAX_PARTS} parts")


@dataclass(slots=True)
class _Tensor:
    """What a tensor states, and how much it holds in each of its fields."""

    name: str = ""
    kind: int = 0
    dims: list[int] = field(default_factory=list)
    is_elsewhere: bool = False
    held: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def note(self, number: int, value: int | memoryview) -> None:
        """Take in one field."""
        if number == EXTERNAL or (number == LOCATION and value != 0):
            self.is_elsewhere = True
        elif number == STRINGS:
            self.held[number] += 1
        elif isinstance(value, int):
            self.held[number] += 1
            if number == DATA_TYPE:
                self.kind = value
            elif number == DIMS:
                self.dims = [*self.dims[:MAX_RANK], value]
        elif number == NAME:
            self.name = str(value, "utf-8")
        elif number == DIMS:
            self.dims += _varints(value)
        else:
            self.held[number] += len(value)

    def holds(self, elements: int) -> bool:
        """Tell whether there is room for so many elements in what is there."""
        if self.kind == STRING_TYPE:
            return elements <= self.held[STRINGS]
        bits = BITS.get(self.kind, SMALLEST_BITS)
        room = 8 * sum(self.held[number] for number in WHOLE)
        if not room:  # a number takes a byte or more, whatever its type; those of 4 bits share one
            room, bits = 8 * sum(self.held[number] for number in INTEGERS), min(bits, 8)
        return -(-elements * bits // 8) * 8 <= room


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and where the next begins."""
    value = 0
    for place in range(10):
        byte = message[position + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + place + 1
    raise DamagedOnnx("it is no ONNX, or damaged")


def _varints(message: memoryview) -> Iterator[int]:
    position = 0
    for _ in range(MAX_RANK + 1):
        if position >= len(message):
            return
        value, position = _varint(message, position)
        yield value
