# SPDX-License-Identifier: Apache-2.0
"""In the confined child: leave of a graph what one output needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from perception_node.engines.onnx_graph import reads

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto


def narrow(model: ModelProto, output: str) -> None:
    """Make ``output``, any tensor of the graph, its only output; drop what that does not need."""
    graph = model.graph
    if [value.name for value in graph.output] == [output]:
        return
    chosen = [value for value in graph.output if value.name == output]
    kept = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    kept.CopyFrom(chosen[0] if chosen else _inner_value(model, output))
    del graph.output[:]
    graph.output.append(kept)
    drop_unused(graph)


def drop_unused(graph: GraphProto) -> None:
    """Remove the nodes, weights and inputs that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # sorted: every reader comes before
        if needed.intersection(node.output):
            needed |= reads(node)
            kept.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for values in (graph.initializer, graph.input):
        for index in reversed(range(len(values))):
            if values[index].name not in needed:
                del values[index]


def _inner_value(model: ModelProto, name: str) -> onnx.ValueInfoProto:
    """Return type and shape of a tensor inside the graph, as far as they can be worked out."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    except Exception:  # noqa: BLE001 - it documents none; the output's type is then checked by a run
        inferred = ()
    found = [value for value in inferred if value.name == name]
    return found[0] if found else helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
