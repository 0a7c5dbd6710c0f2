# SPDX-License-Identifier: Apache-2.0
"""In the confined child: make the bundle's ONNX of a model, and compare the two on images."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from perception_node.engines.importing.graph.canonical import canonicalise
from perception_node.engines.importing.graph.inputs import feeds
from perception_node.engines.importing.graph.inspection import GraphFacts
from perception_node.engines.importing.graph.int8_models import split_quantized, with_weights
from perception_node.engines.importing.graph.label_maps import cut_label_maps
from perception_node.engines.importing.graph.layouts import arrange
from perception_node.engines.importing.graph.loading import load_model
from perception_node.engines.importing.graph.narrowing import narrow
from perception_node.engines.importing.graph.one_score import split_score, with_other_score
from perception_node.engines.importing.graph.running import record_shapes, run, tolerance
from perception_node.engines.importing.graph.ways import ways
from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from perception_node.engines.importing.graph.ways import Way

    _Attempt = tuple[onnx.ModelProto, dict[str, Any]]

SUM_TOLERANCE = 1e-3  # of the probabilities of one image


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Rewrite ``model`` and run it on ``images``, float32 of shape (n, 3, height, width).

    It is compared with ``outputs``, float32 of shape (n, classes), if that file is there, and
    otherwise with the model as it was. The options are ``graph``, the fields of ``GraphFacts``;
    ``size``, height and width; ``color``, the order of the images' channels; ``kind``, what the
    output is, as far as it is known; and ``labels``, how many there are.

    Returns:
        Names of input and output; what ``compare`` returns, and the ``tolerance``; ``kind``, which
        is not None where one score has become two; ``notes``, lines on what was changed; the blob
        ``model``. Of a quantised model also ``quantization``, and what ``split_quantized``
        returns; ``parent`` is the float model it was made of, if that file is there.

    Raises:
        ConversionError: it cannot be rewritten or run.

    """
    facts = GraphFacts(**options["graph"])
    color = options["color"]
    images = np.load("images", allow_pickle=False)
    model = load_model(path, Path("model").read_bytes(), [])
    cut_label_maps(model.graph, [])
    narrow(model, facts.output)
    arranged = [arrange(image[np.newaxis], facts.layout, facts.element, color) for image in images]
    before = run(path, model, facts.output, feeds(model, facts, arranged), facts.batch)
    expected = np.stack([row.ravel() for row in before])
    if Path("outputs").exists():
        expected = np.load(io.BytesIO(Path("outputs").read_bytes()), allow_pickle=False)

    def attempt(way: Way) -> _Attempt:
        arguments = (path, way.model, facts, options["size"], before[0].shape)
        rewritten = canonicalise(*arguments, color=color, change=way.change)
        kind = split_score(path, rewritten, options["kind"], options["labels"])
        _check_types(path, rewritten)
        name, output = rewritten.graph.input[0].name, rewritten.graph.output[0].name
        ours = ({name: image[np.newaxis]} for image in images)
        after = run(path, rewritten, output, ours, as_written=facts.batch > 1)
        scores = np.stack(after)[:, 0]
        is_split = scores.shape[1] > expected.shape[1] == 1
        wanted = with_other_score(expected, kind) if is_split else expected
        names = {"input": name, "output": output, "kind": kind, "notes": way.notes}
        return rewritten, {**names, **compare(path, wanted, scores)}

    record = cache(lambda: record_shapes(model, facts, next(feeds(model, facts, arranged))))
    limit = tolerance(model, expected)
    rewritten, found = _first_good(ways(model, facts.batch, record), attempt, limit)
    found["tolerance"] = limit
    if not facts.quantized:
        return found, {"model": rewritten.SerializeToString(deterministic=True)}
    parent = Path("parent").read_bytes() if Path("parent").exists() else None
    about, blobs = split_quantized(path, with_weights(rewritten), parent)
    reference = onnx.load_model_from_string(blobs["model"])
    run(path, reference, found["output"], [{found["input"]: images[:1]}])
    return {**found, "quantization": {"form": facts.quantized, **about}}, blobs


def _first_good(
    candidates: Iterable[Way], attempt: Callable[[Way], _Attempt], limit: float
) -> _Attempt:
    """Return the first attempt that differs by ``limit`` at most, else the one that comes closest.

    Raises:
        ConversionError: each of them failed.

    """
    best: _Attempt | None = None
    problem: ConversionError | None = None
    for way in candidates:
        try:
            tried = attempt(way)
        except ConversionError as error:
            problem = error
            continue
        if best is None or tried[1]["difference"] < best[1]["difference"]:
            best = tried
        if best[1]["difference"] <= limit:
            break
    if best is None:
        raise problem or AssertionError("there is always a way to try")
    return best


def compare(
    path: Path, expected: NDArray[np.float32], found: NDArray[np.float32]
) -> dict[str, Any]:
    """Return what two (n, classes) float32 arrays have in common.

    Returns:
        ``classes``; the ``range`` of the values and of the ``sums`` of an image's; whether they
        are ``probabilities`` by these; the largest ``difference`` of the two arrays.

    Raises:
        ConversionError: a value is not finite, or the shapes differ.

    """
    if expected.shape != found.shape:
        problem = f"as ONNX it gives {found.shape[1:]}, it gave {expected.shape[1:]} before"
        raise ConversionError(path, problem)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise ConversionError(path, "its output for an image is not finite")
    sums = found.sum(axis=1, dtype=np.float64)
    is_row_of_probabilities = found.min() >= 0.0 and np.abs(sums - 1.0).max() < SUM_TOLERANCE
    return {
        "classes": int(found.shape[1]),
        "range": (float(found.min()), float(found.max())),
        "sums": (float(sums.min()), float(sums.max())),
        "probabilities": bool(is_row_of_probabilities),
        "difference": float(np.abs(found.astype(np.float64) - expected).max()),
    }


def _check_types(path: Path, model: onnx.ModelProto) -> None:
    """Check types and shapes of the whole rewritten graph."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        problem = f"it cannot be rewritten for an input of float32 NCHW: {first_line(error)}"
        raise ConversionError(path, problem) from error
