# SPDX-License-Identifier: Apache-2.0
"""What our changes of ONNX graphs share."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def opset_version(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return int(max(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}))


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those it reads from, as ONNX demands; converters append theirs."""
    nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    makers = {
        index: [maker[name] for name in node.input if name in maker]
        for index, node in enumerate(nodes)
    }
    del graph.node[:]
    graph.node.extend(nodes[index] for index in TopologicalSorter(makers).static_order())
