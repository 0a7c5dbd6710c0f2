# SPDX-License-Identifier: Apache-2.0
"""In the confined child: cut away what merely names the classes at the end of a graph.

ZipMap (Azure Custom Vision, sklearn-onnx) makes maps from name to score of a row of scores;
other nodes give the best name as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from perception_node.engines.importing.graph.narrowing import drop_unused

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto


def cut_label_maps(graph: GraphProto, notes: list[str]) -> list[str] | None:
    """Give scores as a tensor where they are maps, and no text beside them.

    Returns the class names of the maps, if there are any; lines on what was cut are added to
    ``notes``.
    """
    labels = None
    for node in graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
            names = _names(node)
            labels = labels or names
            notes.append(f"ZipMap cut away: the output is its row of {len(names) or 'all'} scores")
            _become_tensor(graph, node, len(names))
    tensors = [value for value in graph.output if not _is_text(value)]
    if tensors and len(tensors) < len(graph.output):
        del graph.output[:]
        graph.output.extend(tensors)
        drop_unused(graph)
    return labels or None


def _names(node: NodeProto) -> list[str]:
    """Return the class names that a ZipMap holds as text; none where it holds numbers."""
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings":
            return [name.decode("utf-8", "backslashreplace") for name in attribute.strings]
    return []


def _become_tensor(graph: GraphProto, node: NodeProto, classes: int) -> None:
    """Give the scores that go into a ZipMap under the name of what it made of them."""
    for value in graph.output:
        if value.name in node.output:
            shape = [None, classes or None]
            scores = helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape)
            value.CopyFrom(scores)
    node.op_type, node.domain = "Identity", ""
    node.ClearField("attribute")


def _is_text(value: ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.STRING)
