# SPDX-License-Identifier: Apache-2.0
"""Leave the layers that int8 hurts most in float, and say what that brings and costs.

Latency is measured in the flavour for ONNX Runtime, as that runs on every machine; agreement
with float32 in both, and the worse one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from perception_node.calibration import metrics
from perception_node.calibration.calibrate import (
    Calibration,
    calibrate,
    silent,
    split,
    try_models,
)
from perception_node.calibration.quantization import (
    prepare,
    quantizable,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from perception_node.calibration.sensitivity import MOST_IMAGES, rank_layers, run_session
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.calibration.calibrate import Report, Wanted
    from perception_node.calibration.images import ImageSet
    from perception_node.calibration.sensitivity import Sensitivity
    from perception_node.model.bundle import ModelBundle

Keep: TypeAlias = "int | Literal['auto']"

MOST_DIGITS = 9  # of a number of layers


@dataclass(frozen=True, slots=True)
class Kept:
    """Which layers stay in float, and what that brings and costs.

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
    """A calibration with some layers in float.

    Attributes:
        calibration: with them in float.
        ranking: what each layer costs when it alone is quantised, worst first.
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
    report: Report = silent,
) -> Mixed:
    """Calibrate, rank the layers, and calibrate again with the worst ones in float.

    ``keep`` says how many; ``auto``: as few as it takes to reach ``min_agreement``, 0 to 1, on the
    images held out. The other arguments are those of ``calibrate``.

    Raises:
        ConfigError: ``keep`` leaves nothing to quantise.
        CalibrationError: also if half of the layers in float do not bring the agreement.
        EngineBuildError: the model cannot be quantised.

    """
    _steps(keep, len(quantizable(prepare(bundle.read()))))  # before the minutes it takes
    first = calibrate(bundle, images, method, labels=labels, report=report)
    giving, judging = split(images)
    ranking = rank_layers(
        first.model,
        first.ranges,
        (image.values for image in giving.sample(MOST_IMAGES)),
        means=first.means,
        report=report,
    )
    kept = keep_in_float(first, ranking, keep, judging, min_agreement=min_agreement, report=report)
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
    held_out: ImageSet,
    *,
    min_agreement: float,
    report: Report = silent,
) -> Kept:
    """Choose the worst layers to stay in float, and measure what that brings and costs.

    Args:
        calibration: with nothing in float.
        ranking: what ``rank_layers`` returned.
        keep: how many; ``auto``: none, or else 1, 2, 4 and so on to half of them, until the
            agreement is reached.
        held_out: images that the ranges were not measured on; read again for each step.
        min_agreement: of both flavours with float32, 0 to 1; what ``auto`` tries to reach.
        report: called after each step, with the number of all at most.

    Raises:
        ConfigError: ``keep`` leaves nothing to quantise, or is negative.
        CalibrationError: there are no images, or half of the layers in float do not bring
            the agreement.

    """
    steps = _steps(keep, len(ranking))
    names = [each.convolution for each in ranking]
    agreements: list[float] = []
    for number in steps:
        agreements.append(_agreement(calibration, names[:number], held_out))
        report("kept in float", len(agreements), len(steps))
        if keep == "auto" and agreements[-1] >= min_agreement:
            break
    if keep == "auto" and agreements[-1] < min_agreement:
        msg = (
            f"with {steps[-1]} of {len(names)} layers in float, int8 agrees with float32 on "
            f"{agreements[-1]:.1%} of the images only, not {min_agreement:.1%}; calibrate with "
            f"more images or another method, or use fp16"
        )
        raise CalibrationError(msg)
    kept = names[: steps[len(agreements) - 1]]
    values = next(iter(held_out)).values
    model, ranges, means = calibration.model, calibration.ranges, calibration.means
    models = {
        "float32": model.SerializeToString(),
        "without": quantize_for_cpu(model, ranges, means=means),
        "with": quantize_for_cpu(model, ranges, kept, means=means),
    }
    taken_ms = model_latencies_ms(models, values)
    return Kept(
        convolutions=tuple(kept),
        agreement=agreements[-1],
        agreement_without=agreements[0],
        latency_ms=taken_ms["with"],
        latency_without_ms=taken_ms["without"],
        latency_float32_ms=taken_ms["float32"],
    )


def model_latencies_ms(
    models: Mapping[str, bytes], values: NDArray[np.float32]
) -> dict[str, float]:
    """Return the median latency of ONNX models on one thread of this CPU, all for one input."""
    return metrics.latencies_ms(
        {name: partial(run_session, open_session(each), values) for name, each in models.items()}
    )


def parse_keep(text: str) -> Keep:
    """Return what ``--keep-float`` says: a number of layers, or ``auto``.

    Raises:
        ConfigError: it is neither.

    """
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        msg = f"--keep-float is {text[:32]!r}; say how many layers stay in float, or auto"
        raise ConfigError(msg)
    return int(text)


def _steps(keep: Keep, count: int) -> list[int]:
    """Return the numbers of layers to try, none of them first."""
    if keep == "auto":
        half = count // 2
        return sorted({0, half, *(1 << power for power in range(half.bit_length()))})
    if not 0 <= keep < count:
        msg = f"--keep-float is {keep}; the model has {count} layers to quantise: 0 to {count - 1}"
        raise ConfigError(msg)
    return [0, keep] if keep else [0]


def _agreement(calibration: Calibration, exclude: Sequence[str], held_out: ImageSet) -> float:
    """Return the part of the images with float32's best class, of the worse flavour."""
    model, ranges, means = calibration.model, calibration.ranges, calibration.means
    pair = (
        quantize_for_tensorrt(model, ranges, exclude, means=means),
        quantize_for_cpu(model, ranges, exclude, means=means),
    )
    return try_models(model.SerializeToString(), {calibration.method: pair}, held_out)[0].agreement
