# SPDX-License-Identifier: Apache-2.0
"""From a bundle and images to all that lower precisions need: models, ranges and a record.

The same images give the same bytes. A tenth of the images is held out: the ranges are not taken
from them, and they say how well each method did. Nothing is written here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from perception_node import __version__
from perception_node.calibration.balancing import balance
from perception_node.calibration.bias_correction import channel_means
from perception_node.calibration.matrix_products import matrix_products
from perception_node.calibration.quantization import (
    activations_of,
    prepare,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from perception_node.calibration.ranges import Method, measure, narrow
from perception_node.calibration.shortcuts import symmetric_scale
from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.multiplications import int8_share
from perception_node.engines.onnxruntime.session import open_session
from perception_node.engines.tensorrt.calibration_cache import CALIBRATION_CACHE, CalibrationCache
from perception_node.errors import CalibrationError
from perception_node.model.bundle import CALIBRATION, INT8_ON_CPU, MODEL, MODEL_FILES
from perception_node.model.sealed_json import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from perception_node.calibration.bias_correction import Means
    from perception_node.calibration.images import ImageSet, PreparedImage
    from perception_node.calibration.ranges import Ranges
    from perception_node.model.bundle import ModelBundle
    from perception_node.untyped import OrtObject

    Report = Callable[[str, int, int], None]  # what is done, with how many images, of how many

METHODS: tuple[Method, ...] = get_args(Method)
Wanted = Literal["auto", "minmax", "percentile", "entropy", "mse"]

FEWEST_IMAGES = 10
HELD_OUT_EVERY = 10
IMAGES_FOR_MEANS = 100
IMAGES_TO_BALANCE = 32


def silent(phase: str, done: int, total: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one method did on the images that were held out, the worse of its two models.

    Attributes:
        method: which.
        agreement: part of the images that get the label float32 gives them.
        difference: root mean square of the logits' differences, as a part of their range.
        top_1: part of the images with the right label; None without labels.

    """

    method: Method
    agreement: float
    difference: float
    top_1: float | None

    @property
    def merit(self) -> tuple[float, float, float]:
        """Larger is better: right labels first, where they are known."""
        return (self.top_1 or 0.0, self.agreement, -self.difference)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibration found.

    Attributes:
        method: the method that was asked for, or the best one.
        trials: of all methods that were tried.
        used: number of images that gave the ranges.
        held_out: number of images that judged.
        skipped: name and reason of what could not be decoded.
        model: what ``quantization.prepare`` returned.
        ranges: smallest and largest value of each tensor.
        means: channel means of what enters convolutions.
        files: what the bundle gets, by name.
        int8_share: part of the multiplications that is int8, of each int8 file.

    """

    method: Method
    trials: tuple[Trial, ...]
    used: int
    held_out: int
    skipped: Mapping[str, str]
    model: onnx.ModelProto
    ranges: Ranges
    means: Means
    files: dict[str, bytes]
    int8_share: dict[str, float]


def calibrate(
    bundle: ModelBundle,
    images: ImageSet,
    method: Wanted = "auto",
    *,
    labels: Mapping[str, int] | None = None,
    exclude: Collection[str] = (),
    report: Report = silent,
) -> Calibration:
    """Return models in lower precision, calibrated with these images.

    Args:
        bundle: the float32 model and its preprocessing.
        images: at least ten that differ; 500 are plenty.
        method: how ranges are chosen; ``auto`` tries all and takes the best.
        labels: class index by image name, if known.
        exclude: names of convolutions to keep in float.
        report: called with what is being done, after each image.

    Raises:
        CalibrationError: too few usable images, or the activations are not finite.
        EngineBuildError: the model cannot be quantised.

    """
    _require(len(images), images)
    prepared = prepare(bundle.read())
    giving, judging = split(images)
    if matrix_products(prepared):
        some = giving.sample(IMAGES_TO_BALANCE)
        prepared = balance(prepared, _values(some, some, "balance", report))
    extremes = measure(prepared, _values(_varied(giving), giving, "ranges", report))
    _require(giving.distinct, images)
    methods = METHODS if method == "auto" else (method,)
    ranges: dict[Method, Ranges] = {"minmax": extremes}
    if methods != ("minmax",):
        found = _values(giving, giving, "histograms", report)
        ranges = narrow(prepared, found, extremes, methods)
    some = giving.sample(IMAGES_FOR_MEANS)
    means = channel_means(prepared, _values(some, some, "biases", report))
    models = {
        one: (
            quantize_for_tensorrt(prepared, ranges[one], exclude, means=means),
            quantize_for_cpu(prepared, ranges[one], exclude, means=means),
        )
        for one in methods
    }
    trials = try_models(bundle.read(), models, judging, labels=labels, report=report)
    best = max(trials, key=lambda trial: trial.merit).method
    shares = {
        name: round(int8_share(onnx.load_model_from_string(model)), 4)
        for name, model in zip((MODEL_FILES["int8"], INT8_ON_CPU), models[best], strict=True)
    }
    record = _record(bundle, images, trials, best) | {
        "used": len(giving.used),
        "held_out": len(judging.used),
        "kept_float": sorted(exclude),
        "int8_share": shares,
        "ranges": {name: list(limits) for name, limits in sorted(ranges[best].items())},
    }
    files = {
        MODEL_FILES["fp16"]: to_half_precision(bundle.read()),
        MODEL_FILES["int8"]: models[best][0],
        INT8_ON_CPU: models[best][1],
        CALIBRATION: seal(record),
        CALIBRATION_CACHE: to_cache(prepared, ranges[best], exclude),
    }
    numbers = len(giving.used), len(judging.used)
    return Calibration(
        best, trials, *numbers, images.skipped, prepared, ranges[best], means, files, shares
    )


def split(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return the images that give the ranges, and every tenth, which is held out to judge."""
    judging = images.subset(images.names[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    return images.subset(set(images.names) - set(judging.names)), judging


def to_cache(model: onnx.ModelProto, ranges: Ranges, exclude: Collection[str] = ()) -> bytes:
    """Return ranges as the calibration cache of TensorRT up to 10.x.

    What the convolutions to ``exclude`` compute is left out: without scales, TensorRT cannot
    quantise them.
    """
    alone = {*exclude, *activations_of(model, exclude)}
    outputs = {name for node in model.graph.node if node.name in alone for name in node.output}
    scales = {
        name: float(symmetric_scale(limits))
        for name, limits in sorted(ranges.items())
        if name not in outputs
    }
    return CalibrationCache(scales).to_bytes()


def _require(count: int, images: ImageSet) -> None:
    if count >= FEWEST_IMAGES:
        return
    what = "usable image(s) that differ" if images.used or images.skipped else "image(s)"
    skipped = images.why_skipped()
    msg = f"{images.source.place}: {count} {what}{', ' + skipped if skipped else ''}"
    advice = f"give at least {FEWEST_IMAGES}, better 500, like those the robot sees"
    raise CalibrationError(f"{msg}; {advice}")


def _varied(images: ImageSet) -> Iterator[PreparedImage]:
    """Yield the images; refuse them at the end if each is of one colour only."""
    is_varied = False
    for image in images:
        pixels = image.frame.pixels
        is_varied = is_varied or bool((pixels != pixels[0, 0]).any())
        yield image
    if images.used and not is_varied:
        msg = f"{images.source.place}: each image is of one colour"
        raise CalibrationError(f"{msg}; was the lens covered? give images like the robot's")
    _require(len(images.used), images)


def _values(
    images: Iterable[PreparedImage], total: ImageSet, phase: str, report: Report
) -> Iterator[NDArray[np.float32]]:
    report(phase, 0, len(total))
    for done, image in enumerate(images, start=1):
        yield image.values
        report(phase, done, len(total))


def try_models(
    original: bytes,
    models: Mapping[Method, tuple[bytes, ...]],
    images: ImageSet,
    *,
    labels: Mapping[str, int] | None = None,
    report: Report = silent,
) -> tuple[Trial, ...]:
    """Run all models on each image once, and compare them with ``original``, in float32.

    ``models`` has both flavours by the method of their ranges, which were not measured on these
    images; ``labels`` the class index by image name.

    Raises:
        CalibrationError: no image can be used.

    """
    reference = _session(original)
    sessions = {method: [_session(each) for each in pair] for method, pair in models.items()}
    expected: list[NDArray[np.float32]] = []
    found: dict[Method, list[list[NDArray[np.float32]]]] = {method: [] for method in models}
    truth: list[int | None] = []
    report("held-out images", 0, len(images))
    for done, image in enumerate(images, start=1):
        expected.append(_run(reference, image.values))
        for method, pair in sessions.items():
            found[method].append([_run(session, image.values) for session in pair])
        truth.append(labels[image.name] if labels else None)
        report("held-out images", done, len(images))
    if not expected:
        msg = f"{images.source.place}: none of the images held out to judge can be decoded"
        raise CalibrationError(f"{msg}; {images.why_skipped()}")
    return tuple(
        _judge(method, np.array(answers), np.array(expected), truth)
        for method, answers in found.items()
    )


def _judge(
    method: Method,
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    truth: list[int | None],
) -> Trial:
    """Compare (images, models, classes) with (images, classes); the worse model counts."""
    labels = found.argmax(axis=2)
    agreement = (labels == expected.argmax(axis=1)[:, None]).mean(axis=0).min()
    squares = ((found - expected[:, None]) ** 2).mean(axis=(0, 2))
    difference = float(np.sqrt(squares.max())) / max(float(np.ptp(expected)), 1e-12)
    top_1 = None
    if None not in truth:
        top_1 = float((labels == np.array(truth)[:, None]).mean(axis=0).min())
    return Trial(method, float(agreement), round(difference, 6), top_1)


def _session(model: bytes) -> OrtObject:
    return open_session(model, ort.SessionOptions())


def _run(session: OrtObject, values: NDArray[np.float32]) -> NDArray[np.float32]:
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0][0]
    return output


def _record(
    bundle: ModelBundle, images: ImageSet, trials: tuple[Trial, ...], best: Method
) -> dict[str, Any]:
    """Say where the ranges come from; no times, no paths: the same images, the same record."""
    return {
        "method": best,
        "trials": [asdict(trial) for trial in trials],
        "images": {
            "source": images.source.kind,
            "sha256": images.digest(),
            "skipped": len(images.skipped),
        },
        "model_sha256": bundle.files[MODEL],
        "preprocessing_sha256": bundle.manifest.preprocessing.sha256(),
        "tools": {
            "perception_node": __version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "opencv": cv2.__version__,
        },
    }
