# SPDX-License-Identifier: Apache-2.0
"""In the confined child: parse an ONNX model and refuse what this package does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import inliner

from perception_node.engines.importing.quantized import OF_RUNTIME, RUNTIME_DOMAIN
from perception_node.errors import ConversionError, first_line
from perception_node.model.onnx_file import RefusedOnnx, look_through

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

STANDARD_DOMAINS = {"", "ai.onnx"}
MAX_NODES = 20_000  # a large vision transformer has about 3000
MAX_NAMED = 5


def load_model(path: Path, content: bytes) -> ModelProto:
    """Parse an ONNX model and check that this package may run it; functions are written out.

    No weights are taken from other files: a bundle is one file whose sha256 says all.

    Raises:
        ConversionError: it is no ONNX, or holds something that is refused.

    """
    try:
        look_through(content)
        model = onnx.load_model_from_string(content)
    except RefusedOnnx as error:
        raise ConversionError(path, str(error)) from error
    except Exception as error:
        problem = "neither a TorchScript archive nor ONNX, or damaged"
        raise ConversionError(path, problem) from error
    if not model.graph.node:
        raise ConversionError(path, "neither a TorchScript archive nor ONNX: it has no graph")
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in STANDARD_DOMAINS and opset.version > newest:
            problem = f"opset {opset.version} is newer than the {newest} that onnx knows"
            raise ConversionError(path, problem)
    _check_size(path, model)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        _check_operators(path, model.graph)
        _check_size(path, model)
        onnx.checker.check_model(model)
    except ConversionError:
        raise
    except Exception as error:
        problem = f"it breaks a rule of ONNX: {first_line(error)}"
        raise ConversionError(path, problem) from error
    return model


def _check_size(path: Path, model: ModelProto) -> None:
    """Refuse a huge graph, which no classifier of one image has."""
    parts = (model.graph, *model.functions)
    if sum(1 for part in parts for _ in all_nodes(part)) > MAX_NODES:
        raise ConversionError(path, f"more than {MAX_NODES} nodes")


def _check_operators(path: Path, graph: GraphProto) -> None:
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in all_nodes(graph)
        if node.domain not in STANDARD_DOMAINS
        and not (node.domain == RUNTIME_DOMAIN and node.op_type in OF_RUNTIME)
    }
    if foreign:
        names = ", ".join(sorted(foreign)[:MAX_NAMED])
        problem = (
            f"operators that are not ONNX's own: {ascii(names)[:200]}; export it without them"
        )
        raise ConversionError(path, problem)


def all_nodes(graph: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph or a function, and of every graph inside it."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node holds: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
