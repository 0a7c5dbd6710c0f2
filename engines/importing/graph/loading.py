# SPDX-License-Identifier: Apache-2.0
"""In the confined child: parse an ONNX model and refuse what this package does not run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import helper, inliner

from perception_node.engines.importing.graph.quantized import OF_RUNTIME, RUNTIME_DOMAIN
from perception_node.engines.importing.graph.weights import WEIGHTS
from perception_node.engines.onnx_graph import all_nodes, is_sorted, sort_nodes
from perception_node.errors import ConversionError, first_line
from perception_node.model.onnx_file import look_through
from perception_node.model.onnx_tensor import RefusedOnnx

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
CLASSICAL = "ai.onnx.ml"  # a domain that converters use to name the classes at a graph's end
COMMON_OPSET = 17  # what TensorRT 8.6 and all later parsers read
WEIGHTS_ARE_NO_INPUTS_FROM = 4  # version of ONNX's file format
MAX_NODES = 20_000  # a large vision transformer has about 3000
MAX_NAMED = 5


def load_model(path: Path, content: bytes, notes: list[str]) -> ModelProto:
    """Parse an ONNX model and check that this package may run it.

    Functions are written out, and nodes that are not in order are sorted: lines on that are added
    to ``notes``. Its large weights may lie in the file ``WEIGHTS`` of the current folder.

    Raises:
        ConversionError: it is no ONNX, or holds something that is refused.

    """
    try:
        look_through(content, beside=_weights())
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
            raise ConversionError(path, describe_opset(opset.version, newest, "onnx"))
    _check_size(path, model)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
            notes.append("functions written out")
        check_operators(path, model.graph, STANDARD_DOMAINS | {CLASSICAL})
        _check_size(path, model)
        if not is_sorted(model.graph):
            sort_nodes(model.graph)
            notes.append("nodes sorted: each comes behind those it reads from")
        _lower_format(model)
        onnx.checker.check_model(model)
    except ConversionError:
        raise
    except Exception as error:
        problem = f"it breaks a rule of ONNX: {first_line(error)}"
        raise ConversionError(path, problem) from error
    return model


def _weights() -> dict[str, int]:
    """Return the size of the file with the large weights, if there is one."""
    file = Path(WEIGHTS)
    return {WEIGHTS: file.stat().st_size} if file.is_file() else {}


def _check_size(path: Path, model: ModelProto) -> None:
    """Refuse a huge graph, which no classifier of one image has."""
    parts = (model.graph, *model.functions)
    if sum(1 for part in parts for _ in all_nodes(part)) > MAX_NODES:
        raise ConversionError(path, f"more than {MAX_NODES} nodes")


def describe_opset(version: int, newest: int, reader: str) -> str:
    """Say that a model is too new for a reader, and what to do."""
    return (
        f"its opset {version} is newer than {newest}, the newest that {reader} reads; export it "
        f"with a lower one, such as torch.onnx.export(..., opset_version={COMMON_OPSET})"
    )


def _lower_format(model: ModelProto) -> None:
    """State the oldest version of the file format that has the model's opsets.

    Exporters state their newest one, which older versions of ONNX Runtime refuse unseen.
    """
    with suppress(ValueError):  # a domain that onnx does not know
        needed = helper.find_min_ir_version_for(list(model.opset_import))
        model.ir_version = min(model.ir_version, max(needed, WEIGHTS_ARE_NO_INPUTS_FROM))


def check_operators(
    path: Path, graph: GraphProto, domains: frozenset[str] = STANDARD_DOMAINS
) -> None:
    """Refuse operators of other domains.

    Raises:
        ConversionError: there are some.

    """
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in all_nodes(graph)
        if node.domain not in domains
        and not (node.domain == RUNTIME_DOMAIN and node.op_type in OF_RUNTIME)
    }
    if foreign:
        names = ", ".join(sorted(foreign)[:MAX_NAMED])
        problem = (
            f"operators that are not ONNX's own: {ascii(names)[:200]}; export it without them"
        )
        raise ConversionError(path, problem)
