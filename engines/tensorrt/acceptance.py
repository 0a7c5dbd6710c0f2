# SPDX-License-Identifier: Apache-2.0
"""Does a plan compute what its model says? Asked once, after it was built and before it is kept.

Synthetic images pass through the bundle's own preprocessing, so that activations are of the size
that the model and its calibration know. The float32 model in ONNX Runtime is the reference.
"""

from __future__ import annotations

import statistics
import time
from itertools import combinations
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineBuildError
from perception_node.vision.frame import Frame
from perception_node.vision.preprocess import FramePreprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from perception_node.config.sections import Precision
    from perception_node.engines.base import Engine
    from perception_node.model.bundle import ModelBundle

TOLERANCES: dict[Precision, float] = {"fp32": 0.002, "fp16": 0.02, "int8": 0.25}
"""Largest difference allowed between two outputs, as a part of the range of the reference's."""

DISTINCT = 0.01
"""Outputs of the reference that are further apart, as a part of their range, differ in a plan."""

IMAGES = 8
IMAGE_SIZE = (320, 240)  # width, height
COARSE = (12, 16, 3)
TIMED_RUNS = 50


def accept_plan(
    bundle: ModelBundle, precision: Precision, make_engine: Callable[[], Engine]
) -> dict[str, Any]:
    """Load a plan that was just built, run it, and return what the manifest says about that.

    The same input twice must give the same output, to the bit; another input another one,
    wherever the reference's differ by more than ``DISTINCT``; and each output must be that of the
    float32 model in ONNX Runtime, the reference, within ``TOLERANCES``. Both are parts of the
    range (largest minus smallest) of all outputs of the reference. ``make_engine`` loads the plan
    and is called once, on this thread.

    Raises:
        EngineBuildError: the plan does not do that, or the reference's output is not finite.
        EngineError: the engine could not be made or failed.

    """
    expected, inputs = _reference(bundle)
    _check_finite(expected, f"the output of {bundle.path} in ONNX Runtime")
    engine = make_engine()
    try:
        found = np.concatenate([_run(engine, values) for values in inputs])
        again = np.concatenate([_run(engine, values) for values in inputs])
        latency_ms = _median_ms(engine)
        description = engine.description
    finally:
        engine.close()
    _check_finite(found, "the engine's output")
    if not np.array_equal(found, again):
        msg = "the engine gave another output for the same input"
        raise EngineBuildError(msg)
    _check_distinct(found, expected)
    return {
        "done": True,
        "engine": description,
        "images": len(inputs),
        **_compare(found, expected, TOLERANCES[precision]),
        "infer_ms": round(latency_ms, 3),
    }


def _check_distinct(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Refuse an engine that gives one output where the reference gives two."""
    noticeable = DISTINCT * np.ptp(expected)
    for first, second in combinations(range(len(expected)), 2):
        differ = np.abs(expected[first] - expected[second]).max() > noticeable
        if differ and np.array_equal(found[first], found[second]):
            msg = "the engine gave the same output for different inputs"
            raise EngineBuildError(msg)


def _compare(
    found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float
) -> dict[str, Any]:
    difference = float(np.abs(found - expected).max() / max(np.ptp(expected), 1e-30))
    if difference > tolerance:
        msg = (
            f"the engine's output differs from the model's by {difference:.3g} of its range, "
            f"more than {tolerance:g}"
        )
        raise EngineBuildError(msg)
    agreeing = int((found.argmax(1) == expected.argmax(1)).sum())
    return {
        "difference": float(f"{difference:.3g}"),
        "tolerance": tolerance,
        "same_label": agreeing,
    }


def _reference(bundle: ModelBundle) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the outputs (images, classes) of the float32 model, and the inputs for them."""
    engine = OnnxRuntimeEngine(bundle)
    try:
        prepare = FramePreprocessor(bundle.manifest.preprocessing, engine.input)
        inputs, outputs = [], []
        for image in _images():
            prepare(Frame.from_bgr(image))
            inputs.append(engine.input.copy())
            engine.infer()
            outputs.append(engine.output.copy())
    finally:
        engine.close()
    return np.concatenate(outputs), inputs


def _images() -> list[NDArray[np.uint8]]:
    """Return colourful uint8 BGR images without hard edges, the same ones every time."""
    random = np.random.default_rng(0)
    return [
        np.asarray(
            cv2.resize(
                random.integers(0, 256, COARSE, np.uint8),
                IMAGE_SIZE,
                interpolation=cv2.INTER_CUBIC,
            ),
            np.uint8,
        )
        for _ in range(IMAGES)
    ]


def _run(engine: Engine, values: NDArray[np.float32]) -> NDArray[np.float32]:
    engine.input[:] = values
    engine.infer()
    return engine.output.copy()


def _median_ms(engine: Engine) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        engine.infer()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def _check_finite(output: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(output).all():
        msg = f"{what} holds NaN or infinite values"
        raise EngineBuildError(msg)
