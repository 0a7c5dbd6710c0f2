# SPDX-License-Identifier: Apache-2.0
"""Judge a bundle's models on images: each beside the float32 one, through ONNX Runtime.

TensorRT's int8 model is computed in float32 around its quantisers, which is what TensorRT's
kernels compute up to rounding. The result is what ``accuracy.json`` holds, the gate's verdict.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import onnxruntime

from perception_node import __version__
from perception_node.calibration import metrics
from perception_node.calibration.judging import DEFAULT_LIMITS, WORST, judge
from perception_node.engines.onnxruntime import OnnxRuntimeEngine, default_threads
from perception_node.errors import CalibrationError, ConfigError, EngineError
from perception_node.model.accuracy import subject
from perception_node.model.bundle import (
    ACCURACY,
    CALIBRATION,
    INT8_ON_CPU,
    MODEL,
    MODEL_FILES,
    add_files,
)
from perception_node.vision.opencv import resize
from perception_node.vision.postprocess import Postprocessor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from perception_node.calibration.calibrate import Report
    from perception_node.calibration.images import ImageSet, PreparedImage
    from perception_node.calibration.judging import Limits, Truth
    from perception_node.config.sections import Precision
    from perception_node.model.bundle import ModelBundle
    from perception_node.vision.postprocess import Hypothesis

SCHEMA_VERSION = 1
THUMBNAIL_SIDE = 160
JPEG_QUALITY = 80
RUNS_ON_CPU = (MODEL, INT8_ON_CPU)  # others are timed where they run: on the GPU


class Flip(NamedTuple):
    """An image that a model names otherwise than float32 does.

    Attributes:
        name: the image's.
        before: the float32 model's best hypothesis.
        after: this model's.
        truth: index of the right class, None if nobody said.
        jpeg: a small picture.

    """

    name: str
    before: Hypothesis
    after: Hypothesis
    truth: int | None
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was found.

    Attributes:
        record: what ``accuracy.json`` says; the same for the same files and images, less its
            ``latency_ms``.
        flips: for each file but the reference, the worst flips, worst first.
        skipped: how many images were skipped and why, empty if none.
        warning: what makes the result worth less than it looks, empty if nothing.

    """

    record: dict[str, Any]
    flips: dict[str, list[Flip]]
    skipped: str
    warning: str = ""

    @property
    def passed(self) -> bool:
        """Whether every model is within the limits."""
        return all(verdict["passed"] for verdict in self.record["models"].values())


def models_of(bundle: ModelBundle, precisions: Sequence[Precision] | None) -> list[str]:
    """Return the files to judge, the float32 reference first; all of the bundle by default.

    Raises:
        ConfigError: the bundle has no file of a precision.

    """
    models = [MODEL]
    for precision in precisions or MODEL_FILES:
        files = [MODEL_FILES[precision]] + [INT8_ON_CPU] * (precision == "int8")
        found = [name for name in files if name in bundle.files]
        if precisions and not found:
            make = f"perception calibrate {bundle.path} --images DIR"
            msg = f"{bundle.path}: has no {' or '.join(files)}; make it with {make}"
            raise ConfigError(msg)
        models += [name for name in found if name not in models]
    return models


def evaluate(
    bundle: ModelBundle,
    images: ImageSet,
    models: Sequence[str],
    *,
    truth: Mapping[str, Truth] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    report: Report = lambda _phase, _done, _total: None,
) -> Evaluation:
    """Run every model on every image.

    Args:
        bundle: the models'.
        images: read once, one at a time.
        models: the bundle's files to judge, the first one the float32 reference.
        truth: class index of each image by name, of a multi-label model all its indices; None
            where nobody knows.
        limits: the gate's.
        report: called after each image.

    Raises:
        CalibrationError: no image can be used.
        EngineError: a model fails or gives no finite output; names it and the image.
        ModelError: a file of the bundle cannot be used.

    """
    running = [_Running(bundle, name) for name in models]
    try:
        count, shown = _run_all(running, images, truth, report)
        timed = {model.name: model.engine.infer for model in running if model.name in RUNS_ON_CPU}
        latencies = {name: round(ms, 3) for name, ms in metrics.latencies_ms(timed).items()}
    finally:
        for model in running:
            model.engine.close()
    if not count:
        msg = f"{images.source.place}: no image can be used: {images.why_skipped()}"
        raise CalibrationError(msg)
    reference = running[0].answers
    verdicts = {
        model.name: {
            "sha256": bundle.files[model.name],
            **judge(bundle, model.answers, reference, shown, limits),
            "latency_ms": latencies.get(model.name),
        }
        for model in running
    }
    warning = _warning(bundle, images)
    record = {
        "schema_version": SCHEMA_VERSION,
        "package": __version__,
        "onnxruntime": onnxruntime.__version__,
        "threads": default_threads(),
        "subject": subject(bundle),
        "images": {
            "source": images.source.kind,
            "count": count,
            "skipped": len(images.skipped),
            "labelled": shown is not None,
            "calibrated_with": bool(warning),
            "sha256": images.digest(),
        },
        "limits": asdict(limits),
        "models": verdicts,
    }
    flips = {model.name: model.worst_flips() for model in running[1:]}
    return Evaluation(record, flips, images.why_skipped(), warning)


def store_evaluation(bundle: ModelBundle, evaluation: Evaluation) -> ModelBundle:
    """Write ``accuracy.json`` into the bundle, in the place of an older one.

    Raises:
        ConfigError: the bundle cannot be written.

    """
    text = json.dumps(evaluation.record, indent=2, ensure_ascii=False, allow_nan=False)
    return add_files(bundle, {ACCURACY: f"{text}\n".encode()})


@dataclass
class _Running:
    """One model with its engine, its answers so far and the worst of its flips."""

    bundle: ModelBundle
    name: str
    answers: metrics.Predictions = field(default_factory=metrics.Predictions)

    def __post_init__(self) -> None:
        manifest = self.bundle.manifest
        self.engine = OnnxRuntimeEngine(self.bundle, model=self.name)
        self._postprocess = Postprocessor(manifest.output.kind, self.bundle.labels)
        self._flips: list[tuple[float, int, Flip]] = []  # a heap, the least bad flip first

    def answer(self, image: PreparedImage) -> Hypothesis:
        """Classify one image and return the best hypothesis; ``add`` must follow."""
        self.engine.input[:] = image.values
        try:
            self.engine.infer()
            self._best = self._postprocess.best(
                self.engine.output, top_k=metrics.TOP, threshold=0.0
            )
        except EngineError as error:
            msg = f"{self.bundle.path / self.name}: on {image.name}: {error}"
            raise EngineError(msg) from error
        return self._best[0]

    def add(self, reference: NDArray[np.float32]) -> None:
        """Remember the last answer beside the output of the reference."""
        self.answers.best.append(tuple(hypothesis.class_id for hypothesis in self._best))
        self.answers.confidences.append(self._best[0].score)
        self.answers.cosines.append(metrics.cosine(self.engine.output, reference))
        if self.bundle.manifest.output.is_multi_label:
            self.answers.scores.append(self._postprocess.scores(self.engine.output).copy())

    def add_flip(self, image: PreparedImage, before: Hypothesis, truth: int | None) -> None:
        """Remember a flip if it is among the worst: both sure, and not the same."""
        after = self._best[0]
        badness = before.score + after.score
        is_full = len(self._flips) == WORST
        if is_full and badness <= self._flips[0][0]:
            return
        flip = Flip(image.name, before, after, truth, _thumbnail(image.to_bgr()))
        entry = (badness, -len(self.answers), flip)  # of equal ones, the first is the worst
        (heapq.heapreplace if is_full else heapq.heappush)(self._flips, entry)

    def worst_flips(self) -> list[Flip]:
        return [flip for _, _, flip in sorted(self._flips, reverse=True)]


def _run_all(
    models: list[_Running],
    images: ImageSet,
    truth: Mapping[str, Truth] | None,
    report: Report,
) -> tuple[int, list[Truth] | None]:
    """Run all models on all images; return how many there were, and what they show if known."""
    reference = models[0]
    shown: list[Truth] = []
    count = 0
    for image in images:
        count += 1
        right = None if truth is None else truth[image.name]
        before = reference.answer(image)
        reference.add(reference.engine.output)
        for model in models[1:]:
            after = model.answer(image)
            model.add(reference.engine.output)
            if after.class_id != before.class_id:
                model.add_flip(image, before, right if isinstance(right, int) else None)
        if right is not None:
            shown.append(right)
        report("evaluating", count, len(images))
    return count, None if truth is None else shown


def _warning(bundle: ModelBundle, images: ImageSet) -> str:
    """Say so if a model is judged on the images that it was calibrated with."""
    if CALIBRATION not in bundle.files:
        return ""
    content = bundle.read(CALIBRATION)
    if images.digest().encode() not in content:
        return ""
    return "these are the images that int8 was calibrated with; judge it on others"


def _thumbnail(bgr: NDArray[np.uint8]) -> bytes:
    """Return the middle square of a picture as a small JPEG."""
    height, width = bgr.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = bgr[top : top + side, left : left + side]
    small = np.empty((THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    resize(square, small, cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
