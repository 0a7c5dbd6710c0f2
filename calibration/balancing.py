# SPDX-License-Identifier: Apache-2.0
"""Make what enters matrix products easier to round, by moving a part of it into the weights.

A few channels of a transformer are far larger than all others, and one scale for all leaves the
others few steps. Such a channel is divided by a number, and its row of the weights multiplied by
it: the product is the same, both factors are easier to round (SmoothQuant, Xiao et al., 2023,
arXiv:2211.10438). How much is moved, if anything, follows from the rounding errors to expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from perception_node.calibration.matrix_products import matrix_products
from perception_node.engines.onnx_graph import attribute
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SHARES = (0.25, 0.5, 0.75)  # of a channel's size that may be moved
WORTH_IT = 0.5  # of the squared error before: outliers are gained on, not a little noise
SMALLEST = 1e-6  # of the largest channel: one that is never used is left as it is


class _Channels(NamedTuple):
    """Of each channel the largest magnitude and the mean square, float64 (channels,)."""

    largest: NDArray[np.float64]
    mean_square: NDArray[np.float64]


def balance(prepared: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]) -> onnx.ModelProto:
    """Return a prepared model that computes the same, with its matrix products balanced.

    The inputs are float32 (1, 3, height, width), read one by one; a few dozen are enough.

    Raises:
        CalibrationError: there are no inputs, or an activation is NaN or infinite.

    """
    balanced = onnx.ModelProto()
    balanced.CopyFrom(prepared)
    wanted = set(matrix_products(prepared))
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in balanced.graph.node:
        if node.name in wanted:
            readers.setdefault(node.input[0], []).append(node)
    constants = {each.name: each for each in prepared.graph.initializer}
    for name, found in _measure(prepared, sorted(readers), inputs).items():
        rows = [_by_row(constants, node) for node in readers[name]]
        factors = _factors(found, np.concatenate(rows, axis=1))
        if factors is not None:
            _apply(balanced.graph, name, readers[name], factors)
    return balanced


def _measure(
    model: onnx.ModelProto, names: list[str], inputs: Iterable[NDArray[np.float32]]
) -> dict[str, _Channels]:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(exposed.SerializeToString(), ort.SessionOptions())
    largest: dict[str, NDArray[np.float64]] = dict.fromkeys(names, np.zeros(()))
    squares, count = dict(largest), 0
    for values in inputs:
        for name, found in zip(
            names, session.run(names, {model.graph.input[0].name: values}), strict=True
        ):
            rows = np.abs(found.reshape(-1, found.shape[-1]).astype(np.float64))
            largest[name] = np.maximum(largest[name], rows.max(axis=0))
            squares[name] = squares[name] + (rows**2).mean(axis=0)
        count += 1
    if not count or not all(np.isfinite(each).all() for each in squares.values()):
        msg = "there are no images, or the model's activations are not finite on them"
        raise CalibrationError(f"{msg}; use others")
    return {name: _Channels(largest[name], squares[name] / count) for name in names}


def _by_row(constants: dict[str, onnx.TensorProto], node: onnx.NodeProto) -> NDArray[np.float64]:
    """Return the weights of a product, a row for each channel that enters."""
    weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
    return weights.T if attribute(node, "transB", 0) else weights


def _factors(channels: _Channels, weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return what to divide each channel by; None where little would be gained."""
    sizes = np.abs(weights).max(axis=1)
    is_used = (channels.largest > SMALLEST * channels.largest.max()) & (sizes > 0.0)
    if not is_used.any():
        return None
    best, least = None, WORTH_IT * _error(channels, weights)
    for share in SHARES:
        factors = np.ones_like(sizes)
        factors[is_used] = channels.largest[is_used] ** share / sizes[is_used] ** (1.0 - share)
        scaled = _Channels(channels.largest / factors, channels.mean_square / factors**2)
        error = _error(scaled, weights * factors[:, None])
        if error < least:
            best, least = factors, error
    return best


def _error(channels: _Channels, weights: NDArray[np.float64]) -> float:
    """Return the squared error that rounding both factors makes, up to a constant."""
    of_activations = channels.largest.max() ** 2 * (weights**2).sum()
    of_weights = (np.abs(weights).max(axis=0) ** 2).sum() * channels.mean_square.sum()
    return float(of_activations + of_weights)


def _apply(
    graph: onnx.GraphProto, name: str, readers: list[onnx.NodeProto], factors: NDArray[np.float64]
) -> None:
    """Divide the channels of a tensor, and multiply the weights of all products that read it."""
    divided, reciprocal = f"{name}_balanced", f"{name}_balance"
    values = (1.0 / factors).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(values, reciprocal))
    constants = {each.name: each for each in graph.initializer}
    names = {node.name for node in readers}
    place = min(index for index, node in enumerate(graph.node) if node.name in names)
    for node in readers:
        weights = numpy_helper.to_array(constants[node.input[1]])
        axis = 0 if attribute(node, "transB", 0) else 1
        scaled = weights / np.expand_dims(values, axis)
        own = f"{node.output[0]}_balanced_weights"  # others may read the weights as they are
        graph.initializer.append(numpy_helper.from_array(scaled.astype(np.float32), own))
        node.input[0], node.input[1] = divided, own
    product = helper.make_node("Mul", [name, reciprocal], [divided], name=divided)
    graph.node.insert(place, product)
    shape = next(each for each in graph.value_info if each.name == name)
    graph.value_info.append(shape)
    graph.value_info[-1].name = divided
