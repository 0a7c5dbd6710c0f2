# SPDX-License-Identifier: Apache-2.0
"""Activation ranges: which values the tensors of a model take on images.

Memory does not grow with the number of images: they pass one by one, and the histograms get their
bins from the extremes, which are measured first. What ``percentile`` and ``entropy`` make of a
histogram is ONNX Runtime's. (Its calibrators take the bins from the first image: after a black
one, there are billions. And they leave NaN out silently.)
"""

from __future__ import annotations

import contextlib
import io
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto
from onnxruntime.quantization.calibrate import HistogramCollector

from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from perception_node.untyped import OrtObject

Ranges = dict[str, tuple[float, float]]
Method = Literal["minmax", "percentile", "entropy", "mse"]

BINS = 2048
QUANTIZED_BINS = 128
PERCENTILE = 99.99
LEVELS = 255
CANDIDATES = np.linspace(0.2, 1.0, 81)  # of the largest magnitude


def measure(model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]) -> Ranges:
    """Return the smallest and largest value of each activation (method ``minmax``).

    ``model`` is prepared; ``inputs`` are float32 (1, 3, height, width), read one by one.

    Raises:
        CalibrationError: there are no inputs, or an activation is NaN or infinite.

    """
    found: Ranges = {}
    for activations in _run(model, inputs):
        for name, values in activations.items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, values.min().item()), max(high, values.max().item())
    if not found:
        msg = "there are no images to calibrate with"
        raise CalibrationError(msg)
    return dict(sorted(found.items()))


def narrow(
    model: onnx.ModelProto,
    inputs: Iterable[NDArray[np.float32]],
    extremes: Ranges,
    methods: Collection[Method],
) -> dict[Method, Ranges]:
    """Return the ranges of other methods, which leave rare values out, from one pass over inputs.

    ``percentile`` cuts off the same share of values on both sides, ``entropy`` loses the least
    information (Kullback-Leibler), ``mse`` has the smallest mean squared error; see ``_least``.

    The inputs are those that ``measure`` found the ``extremes`` of, in the same form.

    Raises:
        CalibrationError: an activation is NaN or infinite.

    """
    collector = HistogramCollector(
        "entropy",
        symmetric=False,
        num_bins=BINS,
        num_quantized_bins=QUANTIZED_BINS,
        percentile=PERCENTILE,
        scenario="same",
    )
    collector.histogram_dict = {name: _empty(limits) for name, limits in extremes.items()}
    for activations in _run(model, inputs):
        for name, values in activations.items():
            counts, _, _, _, largest = collector.histogram_dict[name]
            counts += np.histogram(values, BINS, (-largest, largest))[0]
    return {method: _choose(collector, extremes, method) for method in methods}


def _choose(collector: OrtObject, extremes: Ranges, method: Method) -> Ranges:
    if method == "minmax":
        return extremes
    if method == "mse":
        found: Mapping[str, tuple[Any, ...]] = {
            name: _least(histogram) for name, histogram in collector.histogram_dict.items()
        }
    else:
        collector.method = method
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            found = collector.compute_collection_result()
    limits = {name: (float(values[0]), float(values[1])) for name, values in found.items()}
    return _checked({name: _within(limits[name], extremes[name]) for name in extremes})


def _within(limits: tuple[float, float], extremes: tuple[float, float]) -> tuple[float, float]:
    """Return limits no wider than the extremes; the extremes where nothing would be left."""
    lowest, highest = max(limits[0], extremes[0]), min(limits[1], extremes[1])
    return (lowest, highest) if min(lowest, 0.0) < max(highest, 0.0) else extremes


def _least(histogram: tuple[Any, ...]) -> tuple[float, float]:
    """Return the range with the smallest mean squared error of 8 bits.

    Inside the range a value is off by the square of the step over 12, as rounding is, or by
    itself if it becomes zero; outside by its distance to the range.
    """
    counts, edges, lowest, highest = histogram[:4]
    values = (edges[1:] + edges[:-1]) / 2.0
    limit = max(abs(float(lowest)), abs(float(highest)))
    best, least = (float(lowest), float(highest)), np.inf
    for candidate in CANDIDATES * limit:
        low, high = max(float(lowest), -candidate), min(float(highest), candidate)
        step = (max(high, 0.0) - min(low, 0.0)) / LEVELS
        inside = np.minimum(step * step / 12.0, values * values)
        outside = np.maximum(np.maximum(low - values, values - high), 0.0) ** 2
        error = float((counts * np.where(outside > 0.0, outside, inside)).sum())
        if error <= least:
            best, least = (low, high), error
    return best


def _empty(limits: tuple[float, float]) -> tuple[Any, ...]:
    """Return an empty histogram of ONNX Runtime's, from the negative largest magnitude to it."""
    lowest, highest = (np.float32(limit) for limit in limits)
    largest = max(abs(lowest), abs(highest), np.finfo(np.float32).tiny)
    edges = np.linspace(-largest, largest, BINS + 1, dtype=np.float32)
    return np.zeros(BINS, np.int64), edges, lowest, highest, largest


def _run(
    model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the activations, by name, for each input; the input is one of them.

    Raises:
        CalibrationError: an activation is NaN or infinite.

    """
    image = model.graph.input[0].name
    exposed = onnx.ModelProto.FromString(model.SerializeToString())
    inner = {name for node in model.graph.node for name in node.output}
    inner -= {each.name for each in model.graph.output}
    exposed.graph.output.extend(
        each
        for each in model.graph.value_info
        if each.name in inner and each.type.tensor_type.elem_type == TensorProto.FLOAT
    )
    names = [each.name for each in exposed.graph.output]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    shapes = [each.type.tensor_type.shape.dim for each in exposed.graph.output]
    room = 4 * sum(math.prod(axis.dim_value for axis in shape) for shape in shapes)  # all at once
    session = open_session(exposed.SerializeToString(), options, input_bytes=room)
    for values in inputs:
        found = session.run(names, {image: values})
        activations = {image: values, **dict(zip(names, found, strict=True))}
        for name, each in activations.items():
            if not np.isfinite(each).all():
                raise _not_finite(name)
        yield activations


def _checked(ranges: Ranges) -> Ranges:
    for name, limits in ranges.items():
        if not np.isfinite(limits).all():
            raise _not_finite(name)
    return ranges


def _not_finite(name: str) -> CalibrationError:
    msg = f"{name}: the model's activations are NaN or infinite on these images"
    return CalibrationError(f"{msg}; it is broken in float32 too, export it again")
