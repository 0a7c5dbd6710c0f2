# SPDX-License-Identifier: Apache-2.0
"""Keep the large weights of an ONNX model apart from its graph while it is imported.

A graph without its weights is small, so that it can be parsed, copied and checked at will; the
weights lie in one file beside it, are mapped into memory where they are needed, and become part
of the model again when the bundle is written. The same way leads in for a model that its maker
has already split, as PyTorch's exporter does: ``model.onnx`` and ``model.onnx.data``.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, BinaryIO

from perception_node.model.onnx_file import CHILDREN, look_through
from perception_node.model.onnx_tensor import (
    COUNTED,
    EXTERNAL,
    LENGTH_KEY,
    LOCATION,
    LOCATION_KEY,
    OFFSET_KEY,
    RAW,
    Buffer,
    RefusedOnnx,
    Tensor,
    fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

WEIGHTS = "weights"  # name of the file beside the graph
LARGE = 1 << 20  # bytes; smaller weights, such as shapes, stay in the graph
ALIGNMENT = 64  # what processors load at once

Pieces = list[Buffer]


def split_model(content: bytes, beside: Mapping[str, bytes], file: BinaryIO) -> bytes:
    """Write the large weights of a model to ``file`` and return its graph, which refers to them.

    Args:
        content: an ONNX file.
        beside: the files, by name, in which its weights may lie.
        file: what will be called ``WEIGHTS``.

    Raises:
        DamagedOnnx, RefusedOnnx: it is no ONNX, or needs another file.

    """
    look_through(content, beside={name: len(data) for name, data in beside.items()})

    def move(message: memoryview, *, is_weight: bool) -> Pieces | None:
        tensor, raw = _read_tensor(message)
        if tensor.is_elsewhere:
            span = tensor.span()
            data = memoryview(beside[span.location])
            raw = [data[span.offset : span.offset + span.length]]
        if not is_weight or len(raw) != 1 or len(raw[0]) < LARGE:
            return _with_data(message, raw[0]) if tensor.is_elsewhere else None
        offset = file.seek(-(-file.tell() // ALIGNMENT) * ALIGNMENT)
        file.write(raw[0])
        return _with_place(message, offset, len(raw[0]))

    return b"".join(_change_tensors("Model", memoryview(content), move))


def join_model(graph: bytes, weights: Path, limit_bytes: int) -> Pieces:
    """Return a model in one piece, as parts to be written one after another.

    Args:
        graph: what ``split_model`` gave, perhaps rewritten.
        weights: the file that it wrote.
        limit_bytes: of the model.

    Raises:
        DamagedOnnx: it is no ONNX.
        RefusedOnnx: it refers to something else, or is larger than allowed.

    """
    data = map_file(weights)
    seen = look_through(graph, beside={WEIGHTS: len(data)})
    size = len(graph) + sum(span.length for span in seen.spans)
    if size > limit_bytes:
        raise RefusedOnnx(f"{size} bytes are more than the {limit_bytes} that one file can have")

    def restore(message: memoryview, *, is_weight: bool) -> Pieces | None:
        del is_weight
        tensor, _ = _read_tensor(message)
        if not tensor.is_elsewhere:
            return None
        span = tensor.span()
        return _with_data(message, data[span.offset : span.offset + span.length])

    return _change_tensors("Model", memoryview(graph), restore)


def map_file(path: Path) -> memoryview:
    """Return the content of a file that does not change, without reading it."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _change_tensors(
    kind: str, message: memoryview, change: Callable[..., Pieces | None]
) -> Pieces:
    """Return a message with other tensors in it; ``change`` returns None for one that stays."""
    pieces: Pieces = []
    for number, value, whole in fields(message):
        child = CHILDREN.get(kind, {}).get(number)
        if child is None or isinstance(value, int):
            pieces.append(whole)
            continue
        if child == "Tensor":
            new = change(value, is_weight=kind == "Graph")
        else:
            new = _change_tensors(child, value, change)
        pieces += [whole] if new is None else _field(number, new)
    return pieces


def _read_tensor(message: memoryview) -> tuple[Tensor, Pieces]:
    """Return what a tensor states, and the parts of its raw data."""
    tensor = Tensor()
    raw: Pieces = []
    for number, value, _ in fields(message):
        tensor.note(number, value)
        if number == RAW and not isinstance(value, int):
            raw.append(value)
    return tensor, raw


def _with_data(message: memoryview, data: Buffer) -> Pieces:
    """Return a tensor with its data in it, in the order in which protobuf writes the fields."""
    before, after = _other_fields(message)
    return [*before, *_field(RAW, [data]), *after]


def _with_place(message: memoryview, offset: int, length: int) -> Pieces:
    """Return a tensor whose data lie in the file ``WEIGHTS``."""
    before, after = _other_fields(message)
    place = {LOCATION_KEY: WEIGHTS, OFFSET_KEY: str(offset), LENGTH_KEY: str(length)}
    entries = [
        piece
        for key, value in place.items()
        for piece in _field(EXTERNAL, [*_field(1, [key.encode()]), *_field(2, [value.encode()])])
    ]
    return [*before, *after, *entries, bytes([LOCATION << 3, 1])]


def _other_fields(message: memoryview) -> tuple[Pieces, Pieces]:
    """Return the fields of a tensor before and behind its data, without the data."""
    before: Pieces = []
    after: Pieces = []
    for number, _, whole in fields(message):
        if number not in {RAW, EXTERNAL, LOCATION}:
            (before if number < RAW else after).append(whole)
    return before, after


def _field(number: int, pieces: Pieces) -> Pieces:
    """Return a field of a message whose value is made of these parts."""
    length = sum(map(len, pieces))
    return [_varint(number << 3 | COUNTED) + _varint(length), *pieces]


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
