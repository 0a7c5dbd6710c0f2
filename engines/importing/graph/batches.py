# SPDX-License-Identifier: Apache-2.0
"""In the confined child: make a graph for one image of one that takes a fixed number of them.

The number may be written inside the graph, in the shapes that tensors are given on the way. Which
of these shapes begin with it cannot be seen: each way is tried, and the one that gives the
original's scores is taken.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from perception_node.engines.importing.graph.constants import constants, read
from perception_node.engines.importing.graph.narrowing import drop_unused
from perception_node.engines.onnx_graph import reads, unused_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import GraphProto

    Change = Callable[[GraphProto], None]
    Shapes = dict[str, list[int]]

GIVEN_SHAPES = {"Reshape", "Expand"}  # operators whose second input is a shape


def changes(batch: int, record: Callable[[], Shapes]) -> Iterator[tuple[list[str], Change | None]]:
    """Yield lines for people and a change of the graph, from the simplest to the most costly.

    ``record`` returns the values of ``given_shapes`` in a run. The change is None where the graph
    must be given copies of the image.
    """
    if batch == 1:
        yield [], _nothing
        return
    line = f"batch fixed at {batch}: the graph is rewritten to 1"
    yield [line], _nothing
    shapes = record()
    for rule in (_divide, _replace):
        yield [line], partial(_shrink, batch=batch, shapes=shapes, rule=rule)
    yield [f"batch fixed at {batch}: it gets {batch} copies of each image; export batch 1"], None


def given_shapes(graph: GraphProto, image: str) -> set[str]:
    """Return the tensors that say which shape something made of the input ``image`` gets.

    Where a constant is expanded, it may become part of that, so its shape is among them.
    """
    made = {image}
    found = set()
    for node in graph.node:
        is_made = bool(made & reads(node))
        if is_made:
            made.update(node.output)
        if node.op_type in GIVEN_SHAPES and (is_made or node.op_type == "Expand"):
            found.add(node.input[1])
    return found


def _nothing(graph: GraphProto) -> None:
    """Leave the graph as it is: nothing in it depends on the batch."""


def _replace(first: int, batch: int) -> int:
    return 1 if first == batch else first


def _divide(first: int, batch: int) -> int:
    """Return one image's share of a number that may be images times windows."""
    return first // batch if first % batch == 0 else first


def _shrink(
    graph: GraphProto, batch: int, shapes: Shapes, rule: Callable[[int, int], int]
) -> None:
    """Apply a rule to what the shapes begin with, and leave one of what was written per image."""
    for node in graph.node:
        shape = shapes.get(node.input[1], []) if node.op_type in GIVEN_SHAPES else []
        if shape and shape[0] > 1 and (first := rule(shape[0], batch)) != shape[0]:
            name = unused_name(graph, "shape")
            value = np.array([first, *shape[1:]], np.int64)
            graph.initializer.append(numpy_helper.from_array(value, name))
            node.input[1] = name
    for _, tensor in constants(graph):
        if len(tensor.dims) > 2 and tensor.dims[0] == batch:
            values = read(tensor)
            if (values == values[:1]).all():  # such as a class token
                tensor.CopyFrom(numpy_helper.from_array(values[:1], tensor.name))
    drop_unused(graph)
