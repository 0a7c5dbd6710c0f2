# SPDX-License-Identifier: Apache-2.0
"""Leave the convolutions that int8 hurts most in float, and say what that brings and costs.

Latency is measured in the flavour for ONNX Runtime, as that runs on every machine; agreement
with float32 in both, and the worse one counts.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from perception_node.calibration.calibrate import Calibration, calibrate, split
from perception_node.calibration.quantization import (
    convolutions,
    prepare,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from perception_node.calibration.sensitivity import (
    MOST_IMAGES,
    rank_convolutions,
    run_session,
)
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from perception_node.calibration.calibrate import Report, Wanted
    from perception_node.calibration.images import ImageSet
    from perception_node.calibration.sensitivity import Sensitivity
    from perception_node.model.bundle import ModelBundle

Keep: TypeAlias = "int | Literal['auto']"

ROUNDS, RUNS_PER_ROUND = 5, 10  # of a latency
MOST_DIGITS = 9  # of a number of convolutions


@dataclass(frozen=True, slots=True)
class Kept:
    """Which convolutions stay in float, and what that brings and costs.

    Attributes:
        convolutions: their names, worst first; ``exclude`` of the quantisers.
        agreement: part of the images with float32's best class, 0 to 1, with them in float; the
            lower one of both flavours.
        agreement_without: the same if none stays in float.
        latency_ms: median on one thread of this CPU.
        latency_without_ms: the same if none stays in float.
        latency_float32_ms: the same of the float32 model.

    """

    convolutions: tuple[str, ...]
    agreement: float
    agreement_without: float
    latency_ms: float
    latency_without_ms: float
    latency_float32_ms: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """A calibration with some convolutions in float.

    Attributes:
        calibration: with them in float.
        ranking: what each convolution costs when it alone is quantised, worst first.
        kept: which are in float, and what that brings and costs.

    """

    calibration: Calibration
    ranking: tuple[Sensitivity, ...]
    kept: Kept


def calibrate_mixed(
    bundle: ModelBundle,
    images: ImageSet,
    method: Wanted,
    keep: Keep,
    *,
    min_agreement: float,
    labels: Mapping[str, int] | None = None,
    report: Report = lambda _phase, _done, _total: None,
) -> Mixed:
    """Calibrate, rank the convolutions, and calibrate again with the worst ones in float.

    Args:
        bundle: as for ``calibrate``, like ``images``, ``method``, ``labels`` and ``report``.
        images: those held out also decide how many convolutions ``auto`` keeps.
        method: of the ranges.
        keep: how many; ``auto``: as few as it takes.
        min_agreement: what ``auto`` tries to reach, 0 to 1.
        labels: class index by image name, if known.
        report: called with what is being done.

    Raises:
        ConfigError: ``keep`` leaves nothing to quantise.
        CalibrationError: also if half of the convolutions in float do not bring the agreement.
        EngineBuildError: the model cannot be quantised.

    """
    _steps(keep, len(convolutions(prepare(bundle.read()))))  # before the minutes it takes
    first = calibrate(bundle, images, method, labels=labels, report=report)
    giving, judging = split(images)
    ranking = rank_convolutions(
        first.model,
        first.ranges,
        _Inputs(giving.sample(MOST_IMAGES)),
        means=first.means,
        report=lambda done, total: report("convolutions", done, total),
    )
    kept = keep_in_float(
        first,
        ranking,
        keep,
        _Inputs(judging),
        min_agreement=min_agreement,
        report=lambda done, total: report("kept in float", done, total),
    )
    last = first
    if kept.convolutions:
        last = calibrate(
            bundle, images, first.method, labels=labels, exclude=kept.convolutions, report=report
        )
    return Mixed(last, tuple(ranking), kept)


def keep_in_float(
    calibration: Calibration,
    ranking: Sequence[Sensitivity],
    keep: Keep,
    held_out: Iterable[NDArray[np.float32]],
    *,
    min_agreement: float,
    report: Callable[[int, int], None] | None = None,
) -> Kept:
    """Choose the worst convolutions to stay in float, and measure what that brings and costs.

    Args:
        calibration: with nothing in float.
        ranking: what ``rank_convolutions`` returned.
        keep: how many; ``auto``: none, or else 1, 2, 4 and so on to half of them, until the
            agreement is reached.
        held_out: inputs that the ranges were not measured on; read anew for each step, one by
            one.
        min_agreement: of both flavours with float32, 0 to 1; what ``auto`` tries to reach.
        report: called with the number of steps that are done, and of all at most.

    Raises:
        ConfigError: ``keep`` leaves nothing to quantise, or is negative.
        CalibrationError: there are no inputs, or half of the convolutions in float do not bring
            the agreement.

    """
    steps = _steps(keep, len(ranking))
    names = [each.convolution for each in ranking]
    agreements: list[float] = []
    for number in steps:
        agreements.append(_agreement(calibration, names[:number], held_out))
        if report is not None:
            report(len(agreements), len(steps))
        if keep == "auto" and agreements[-1] >= min_agreement:
            break
    if keep == "auto" and agreements[-1] < min_agreement:
        msg = (
            f"with {steps[-1]} of {len(names)} convolutions in float, int8 agrees with float32 on "
            f"{agreements[-1]:.1%} of the images only, not {min_agreement:.1%}; calibrate with "
            f"more images or another method, or use fp16"
        )
        raise CalibrationError(msg)
    kept = names[: steps[len(agreements) - 1]]
    sample = next(iter(held_out))
    models = [
        calibration.model.SerializeToString(),
        *(
            quantize_for_cpu(calibration.model, calibration.ranges, names, means=calibration.means)
            for names in ((), kept)
        ),
    ]
    float32_ms, without_ms, with_ms = _latencies_ms(models, sample)
    return Kept(tuple(kept), agreements[-1], agreements[0], with_ms, without_ms, float32_ms)


def parse_keep(text: str) -> Keep:
    """Return what ``--keep-float`` says: a number of convolutions, or ``auto``.

    Raises:
        ConfigError: it is neither.

    """
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        msg = f"--keep-float is {text[:32]!r}; say how many convolutions stay in float, or auto"
        raise ConfigError(msg)
    return int(text)


def _steps(keep: Keep, count: int) -> list[int]:
    """Return the numbers of convolutions to try, none of them first."""
    if keep == "auto":
        half = count // 2
        return sorted({0, half, *(1 << power for power in range(half.bit_length()))})
    if not 0 <= keep < count:
        msg = f"--keep-float is {keep}; the model has {count} convolutions: 0 to {count - 1}"
        raise ConfigError(msg)
    return [0, keep] if keep else [0]


class _Inputs:
    """The model's inputs of images, which are read anew each time."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (image.values for image in self._images)


def _agreement(
    calibration: Calibration, exclude: Sequence[str], held_out: Iterable[NDArray[np.float32]]
) -> float:
    """Return the part of the images with float32's best class, of the worse flavour."""
    model, ranges, means = calibration.model, calibration.ranges, calibration.means
    sessions = [
        open_session(each)
        for each in (
            model.SerializeToString(),
            quantize_for_cpu(model, ranges, exclude, means=means),
            quantize_for_tensorrt(model, ranges, exclude, means=means),
        )
    ]
    classes = [
        [int(run_session(each, values).argmax()) for each in sessions] for values in held_out
    ]
    if not classes:
        msg = "there are no images to judge with; give more"
        raise CalibrationError(msg)
    answers = np.array(classes)
    return float((answers[:, 1:] == answers[:, :1]).mean(axis=0).min())


def _latencies_ms(models: Sequence[bytes], values: NDArray[np.float32]) -> list[float]:
    """Return the median latency of each model, taken in turns: a busy moment hits them all."""
    sessions = [open_session(model) for model in models]
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, times, strict=True):
            run_session(session, values)  # brings its weights back into the cache
            for _ in range(RUNS_PER_ROUND):
                start = time.perf_counter()
                run_session(session, values)
                taken.append(time.perf_counter() - start)
    return [1e3 * statistics.median(taken) for taken in times]
