# SPDX-License-Identifier: Apache-2.0
"""In the confined child: make the bundle's ONNX of a model, and compare the two on images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from perception_node.engines.importing.canonical import canonicalise
from perception_node.engines.importing.inspection import GraphFacts
from perception_node.engines.importing.int8_models import split_quantized
from perception_node.engines.importing.layouts import arrange
from perception_node.engines.importing.loading import load_model
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUM_TOLERANCE = 1e-3  # of the probabilities of one image


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Rewrite ``model`` and run it on ``images``, float32 of shape (n, 3, height, width).

    It is compared with ``outputs``, float32 of shape (n, classes), if that file is there, and
    otherwise with the model as it was. The options are ``graph``, the fields of ``GraphFacts``,
    and ``size``, height and width.

    Returns:
        Names of input and output, number of classes, whether the values are probabilities, and
        the largest difference; the blob ``model``. Of a quantised model also ``quantization``,
        and what ``split_quantized`` returns; ``parent`` is the float model it was made of, if
        that file is there.

    Raises:
        ConversionError: it cannot be rewritten or run.

    """
    facts = GraphFacts(**options["graph"])
    height, width = options["size"]
    images = np.load("images", allow_pickle=False)
    model = load_model(path, Path("model").read_bytes())
    arranged = [arrange(image[np.newaxis], facts.layout, facts.element) for image in images]
    before = run(path, model, facts.input, arranged)
    rewritten = canonicalise(path, model, facts, (height, width), before[0].shape)
    _check_types(path, rewritten)
    name = rewritten.graph.input[0].name
    after = np.stack(run(path, rewritten, name, [image[np.newaxis] for image in images]))[:, 0]
    expected = np.stack([row.ravel() for row in before])
    if Path("outputs").exists():
        expected = np.load(io.BytesIO(Path("outputs").read_bytes()), allow_pickle=False)
    found = {
        "input": name,
        "output": rewritten.graph.output[0].name,
        **compare(path, expected, after),
    }
    if not facts.quantized:
        return found, {"model": rewritten.SerializeToString(deterministic=True)}
    parent = Path("parent").read_bytes() if Path("parent").exists() else None
    about, blobs = split_quantized(path, rewritten, parent)
    reference = onnx.load_model_from_string(blobs["model"])
    run(path, reference, name, [image[np.newaxis] for image in images[:1]])
    return {**found, "quantization": {"form": facts.quantized, **about}}, blobs


def compare(
    path: Path, expected: NDArray[np.float32], found: NDArray[np.float32]
) -> dict[str, Any]:
    """Return number of classes, kind and largest difference of two (n, classes) float32 arrays.

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
        "probabilities": bool(is_row_of_probabilities),
        "difference": float(np.abs(found.astype(np.float64) - expected).max()),
    }


def run(
    path: Path, model: onnx.ModelProto, name: str, images: list[NDArray[Any]]
) -> list[NDArray[np.float32]]:
    """Run a model in ONNX Runtime on each image; return its outputs as float32, in their shape.

    Raises:
        ConversionError: ONNX Runtime cannot load or run it.

    """
    content = model.SerializeToString()
    try:
        session = open_session(content, input_bytes=images[0].nbytes)
        outputs = [session.run(None, {name: image})[0] for image in images]
    except Exception as error:  # it documents no exceptions
        problem = f"ONNX Runtime cannot run it: {first_line(error)}"
        raise ConversionError(path, problem) from error
    if outputs[0].size < 2:
        problem = (
            f"its output has the shape {outputs[0].shape}; a classifier has a score per class"
        )
        raise ConversionError(path, problem)
    if len({output.shape for output in outputs}) > 1:
        raise ConversionError(path, "the shape of its output depends on the image")
    if sum(axis > 1 for axis in outputs[0].shape) != 1:
        problem = f"its output has the shape {outputs[0].shape}, not one row of scores"
        raise ConversionError(path, problem)
    return [np.asarray(output, np.float32) for output in outputs]


def _check_types(path: Path, model: onnx.ModelProto) -> None:
    """Check types and shapes of the whole rewritten graph."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        problem = f"it cannot be rewritten for an input of float32 NCHW: {first_line(error)}"
        raise ConversionError(path, problem) from error
