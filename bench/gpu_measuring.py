# SPDX-License-Identifier: Apache-2.0
"""Frames, times and complaints for the checks of ``gpu_check``."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from perception_node.errors import PerceptionError
from perception_node.vision.frame import ENCODINGS, Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from perception_node.engines.pipeline import Pipeline

ROUNDS = 200


class CheckFailed(PerceptionError):
    """Something is not as it must be."""


class CheckSkipped(PerceptionError):
    """Something is not here that need not be."""


def make_frame(encoding: str, height: int, width: int, seed: int) -> Frame:
    """Return a frame of smooth random bytes, which is a picture in any encoding."""
    layout = ENCODINGS[encoding]
    rows, row_bytes = int(height * layout.rows_per_height), width * layout.pixel_bytes
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8), np.uint8)
    data = cv2.resize(coarse, (row_bytes, rows), interpolation=cv2.INTER_CUBIC)
    shape = (rows, width) if layout.pixel_bytes == 1 else (rows, width, layout.pixel_bytes)
    pixels = cast("NDArray[np.uint8]", data.reshape(shape))
    return Frame(pixels, encoding, height, width, is_bigendian=False, stamp_ns=0, frame_id="")


def latency(pipeline: Pipeline, frame: Frame) -> dict[str, float]:
    """Return how long a frame takes, in milliseconds: medians, and the 99th percentile."""
    times = []
    for _ in range(ROUNDS):
        stages = pipeline.run(frame, top_k=5, threshold=0.0).times
        times.append((stages.preprocess_ns / 1e6, stages.infer_ns / 1e6))
    stage, infer = zip(*times, strict=True)
    both = sorted(map(sum, times))
    return {
        "stage_ms": median(stage),
        "infer_ms": median(infer),
        "both_p99_ms": both[int(0.99 * ROUNDS)],
    }


def median_ms(*work: Callable[[], None], rounds: int | None = None) -> float:
    """Return how long some calls take together, in milliseconds, the median of many."""
    times = []
    for _ in range(rounds or ROUNDS):
        start = time.perf_counter()
        for call in work:
            call()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def require(condition: bool, problem: str) -> None:  # noqa: FBT001 - reads like assert
    """Raise ``CheckFailed`` unless the condition holds."""
    if not condition:
        raise CheckFailed(problem)
