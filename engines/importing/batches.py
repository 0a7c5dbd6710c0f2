# SPDX-License-Identifier: Apache-2.0
"""In the confined child: make a graph for one image of one that takes a fixed number of them.

Where the number is written inside the graph, which constants mean it cannot be seen: each way is
tried, and the one that gives the original's scores is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from perception_node.engines.importing.constants import constants, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto

    Change = Callable[[GraphProto, int], None]

# Operators that take a shape, and the place of the shape among their inputs.
SHAPES = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Tile": 1}


def changes(batch: int) -> Iterator[tuple[list[str], Change | None]]:
    """Yield lines for people and a change of the graph, from the simplest to the most costly.

    The change is None where the graph must be given copies of the image.
    """
    if batch == 1:
        yield [], _nothing
        return
    for change in (_nothing, _replace_first, _divide_first):
        yield [f"batch fixed at {batch}: the graph is rewritten to 1"], change
    yield [f"batch fixed at {batch}: it gets {batch} copies of each image; export batch 1"], None


def _nothing(graph: GraphProto, batch: int) -> None:
    """Leave the graph as it is: nothing in it depends on the batch."""


def _replace_first(graph: GraphProto, batch: int) -> None:
    """Write 1 for the batch where a shape begins with it."""
    _change_shapes(graph, lambda first: 1 if first == batch else first)
    _shorten_copies(graph, batch)


def _divide_first(graph: GraphProto, batch: int) -> None:
    """Divide by the batch what a shape begins with, such as images times windows."""
    _change_shapes(graph, lambda first: first // batch if first % batch == 0 else first)
    _shorten_copies(graph, batch)


def _change_shapes(graph: GraphProto, change: Callable[[int], int]) -> None:
    readers = {
        node.input[place]
        for node in graph.node
        if (place := SHAPES.get(node.op_type, len(node.input))) < len(node.input)
    }
    for name, tensor in constants(graph):
        shape = read(tensor) if name in readers else np.zeros(0)
        if shape.ndim == 1 and shape.size and shape[0] > 1:
            changed: NDArray[Any] = shape.copy()
            changed[0] = change(int(shape[0]))
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _shorten_copies(graph: GraphProto, batch: int) -> None:
    """Leave one of what an exporter wrote once for each image, such as a class token."""
    for _, tensor in constants(graph):
        if len(tensor.dims) > 2 and tensor.dims[0] == batch:
            values = read(tensor)
            if (values == values[:1]).all():
                tensor.CopyFrom(numpy_helper.from_array(values[:1], tensor.name))
