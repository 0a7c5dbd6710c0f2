# SPDX-License-Identifier: Apache-2.0
"""In the confined child: run a model in ONNX Runtime, and say how far two runs may differ."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from perception_node.engines.importing.graph.batches import given_shapes
from perception_node.engines.importing.graph.constants import constant_of, constants
from perception_node.engines.importing.graph.doubles import has_doubles
from perception_node.engines.importing.graph.loading import describe_opset
from perception_node.engines.importing.graph.weights import WEIGHTS, map_file
from perception_node.engines.onnx_graph import all_nodes, opset_version
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from perception_node.engines.importing.graph.inspection import GraphFacts
    from perception_node.untyped import OrtObject

# Of the range of the scores. Sums of float32 that are added in another order differ by about
# 1e-6 of it for each layer. Float16 rounds each layer's result by up to 2 ** -11, which adds up to
# ten times as much over a hundred layers that round independently; twice that is allowed.
SINGLE, HALF = 1e-4, 1e-2
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def run(
    path: Path,
    model: onnx.ModelProto,
    output: str,
    feeds: Iterable[dict[str, NDArray[Any]]],
    batch: int = 1,
    *,
    as_written: bool = False,
) -> list[NDArray[np.float32]]:
    """Run a model in ONNX Runtime on each feed; return the scores of the first image as float32.

    Each array has the shape that the output has for one image. ``as_written``: nodes are not
    joined, which could hide that a shape is wrong.

    Raises:
        ConversionError: ONNX Runtime cannot load or run it, or the output is no row of scores.

    """
    content = model.SerializeToString()
    feeds = iter(feeds)
    first = next(feeds)
    try:
        session = _open(content, first, as_written=as_written)
        outputs = [session.run([output], feed)[0] for feed in chain([first], feeds)]
    except Exception as error:  # it documents no exceptions
        version, newest = opset_version(model), newest_opset()
        problem = f"ONNX Runtime cannot run it: {first_line(error)}"
        if version > newest:
            problem = describe_opset(version, newest, f"ONNX Runtime {ort.__version__}")
        elif has_doubles(model.graph):
            problem += "; it computes in float64, export it in float32"
        raise ConversionError(path, problem) from error
    if batch > 1:
        outputs = [_first_row(path, each, batch) for each in outputs]
    _check_rows(path, outputs)
    with np.errstate(over="ignore"):  # what becomes infinite is refused by whoever compares
        return [np.asarray(each, np.float32) for each in outputs]


def record_shapes(
    model: onnx.ModelProto, facts: GraphFacts, feed: dict[str, NDArray[Any]]
) -> dict[str, list[int]]:
    """Return the values of ``given_shapes`` in a run, by name; nothing where it cannot be run."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    found = {
        name: constant_of(model.graph, name) for name in given_shapes(model.graph, facts.input)
    }
    computed = [name for name, value in found.items() if value is None and name != facts.output]
    asked.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in computed
    )
    try:
        session = _open(asked.SerializeToString(), feed)
        found |= dict(zip(computed, session.run(computed, feed) if computed else [], strict=True))
    except Exception:  # noqa: BLE001 - it documents none; copies of the image are a way, too
        return {}
    return {name: value.ravel().tolist() for name, value in found.items() if value is not None}


def _open(content: bytes, feed: dict[str, NDArray[Any]], *, as_written: bool = False) -> OrtObject:
    beside = {WEIGHTS: map_file(Path(WEIGHTS))} if Path(WEIGHTS).is_file() else {}
    size = sum(each.nbytes for each in feed.values())
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_session(content, options, input_bytes=size, beside=beside)


def _first_row(path: Path, scores: NDArray[Any], batch: int) -> NDArray[Any]:
    if scores.ndim < 2 or scores.shape[0] != batch:
        problem = f"its output has the shape {scores.shape}, no row for each of its {batch} images"
        raise ConversionError(path, f"{problem}; export it with batch 1")
    return scores[:1]


def _check_rows(path: Path, outputs: list[NDArray[Any]]) -> None:
    shape = outputs[0].shape
    if outputs[0].size == 0:
        problem = f"its output has the shape {shape}; a classifier has a score per class"
        raise ConversionError(path, problem)
    if len({output.shape for output in outputs}) > 1:
        raise ConversionError(path, "the shape of its output depends on the image")
    if sum(axis > 1 for axis in shape) > 1:
        raise ConversionError(path, f"its output has the shape {shape}, not one row of scores")


def newest_opset() -> int:
    """Return the newest opset that this ONNX Runtime reads, as far as onnx knows it."""
    newest = onnx.defs.onnx_opset_version()
    return next((version for version in range(newest, 0, -1) if _reads(version)), 0)


def _reads(version: int) -> bool:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "probe", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    try:
        open_session(model.SerializeToString())
    except Exception:  # noqa: BLE001 - it documents none
        return False
    return True


def tolerance(model: onnx.ModelProto, scores: NDArray[np.float32]) -> float:
    """Return how far a rewritten model's scores may be from ``scores``, those of ``model``.

    It is a share of their range, and of 1 where that is smaller.
    """
    spread = float(scores.max() - scores.min()) if scores.size else 0.0
    return (HALF if _has_halves(model) else SINGLE) * max(1.0, spread)


def _has_halves(model: onnx.ModelProto) -> bool:
    """Tell whether a model computes in 16 bits somewhere."""
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    kinds |= {tensor.data_type for _, tensor in constants(model.graph)}
    casts = (node for node in all_nodes(model.graph) if node.op_type == "Cast")
    kinds |= {attribute.i for node in casts for attribute in node.attribute}
    return bool(kinds & HALVES)
