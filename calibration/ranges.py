# SPDX-License-Identifier: Apache-2.0
"""Activation ranges: which values the tensors of a model take on images.

The calibrators are ONNX Runtime's. Memory does not grow with the number of images: they pass one
by one, and the histograms get their bins from the extremes, which are measured first. (Left to
itself, ONNX Runtime takes the bins from the first image: after a black one, there are billions.)
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
from onnxruntime.quantization.calibrate import HistogramCollector

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
    """Return the smallest and largest value of each activation, 0 included (method ``minmax``).

    Args:
        model: what ``quantization.prepare`` returned.
        inputs: float32 (1, 3, height, width), read one by one.

    Raises:
        CalibrationError: there are no inputs, or an activation is NaN or infinite.

    """
    with _calibrator(model, CalibrationMethod.MinMax) as calibrator:
        if not _feed(calibrator, model, inputs):
            msg = "there are no images to calibrate with"
            raise CalibrationError(msg)
        found = calibrator.compute_data().items()
    limits = {name: data.range_value for name, data in sorted(found)}
    return _checked(
        {name: (np.min(low).item(), np.max(high).item()) for name, (low, high) in limits.items()}
    )


def narrow(
    model: onnx.ModelProto,
    inputs: Iterable[NDArray[np.float32]],
    extremes: Ranges,
    methods: Collection[Method],
) -> dict[Method, Ranges]:
    """Return the ranges of other methods, which leave rare values out, from one pass over inputs.

    ``percentile`` cuts off the same share of values on both sides, ``entropy`` loses the least
    information (Kullback-Leibler), ``mse`` has the smallest mean squared error; see ``_least``.

    Args:
        model: what ``quantization.prepare`` returned.
        inputs: the inputs that ``extremes`` were measured on, in the same form.
        extremes: what ``measure`` returned.
        methods: those that are wanted.

    Raises:
        CalibrationError: an activation is NaN or infinite.

    """
    collector = HistogramCollector("entropy", False, BINS, QUANTIZED_BINS, PERCENTILE, "same")  # noqa: FBT003
    collector.histogram_dict = {name: _empty(limits) for name, limits in extremes.items()}
    with _calibrator(model, CalibrationMethod.Entropy) as calibrator:
        calibrator.tensors_to_calibrate = set(extremes)
        calibrator.collector = collector
        _feed(calibrator, model, inputs)
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


@contextlib.contextmanager
def _calibrator(model: onnx.ModelProto, method: CalibrationMethod) -> Iterator[Any]:
    """Make one of ONNX Runtime's calibrators, for all activations of the model."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            source, augmented_model_path=augmented, calibrate_method=method
        )
        calibrator.infer_session = _FiniteSession(calibrator.infer_session)
        yield calibrator


def _feed(
    calibrator: OrtObject, model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]
) -> int:
    """Give the inputs to a calibrator one by one, which forgets each, and return their number."""
    name, count = model.graph.input[0].name, 0
    for values in inputs:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            calibrator.collect_data(_Once({name: values}))
        count += 1
    return count


class _Once(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """Hands one input to ONNX Runtime."""

    def __init__(self, values: dict[str, NDArray[np.float32]]) -> None:
        self._values: dict[str, NDArray[np.float32]] | None = values

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        values, self._values = self._values, None
        return values


class _FiniteSession:
    """A session whose outputs are finite; ONNX Runtime's calibrators leave NaN out silently."""

    def __init__(self, session: OrtObject) -> None:
        self._session = session
        self.get_inputs = session.get_inputs
        self.get_outputs = session.get_outputs

    def run(self, names: object, inputs: dict[str, NDArray[np.float32]]) -> list[Any]:
        found: list[Any] = self._session.run(names, inputs)
        for output, values in zip(self.get_outputs(), found, strict=True):
            if not np.isfinite(values).all():
                raise _not_finite(output.name)
        return found


def _checked(ranges: Ranges) -> Ranges:
    for name, limits in ranges.items():
        if not np.isfinite(limits).all():
            raise _not_finite(name)
    return ranges


def _not_finite(name: str) -> CalibrationError:
    msg = f"{name}: the model's activations are NaN or infinite on these images"
    return CalibrationError(f"{msg}; it is broken in float32 too, export it again")
