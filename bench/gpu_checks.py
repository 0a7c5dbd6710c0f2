# SPDX-License-Identifier: Apache-2.0
"""The checks of ``gpu_check`` on what the engine is made of: contexts, memory, graphs, failure.

Each makes, uses and closes what it needs, returns what it measured, times in milliseconds, and
raises where something is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
from perception_node.engines.tensorrt.gpu_preprocessor import GpuPreprocessor
from perception_node.errors import EngineError, EngineLost, PerceptionError
from perception_node.model.bundle import load_bundle
from perception_node.system.guardian import ended_with_us
from perception_node.system.resources import find_model
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from perception_node.engines.pipeline import Pipeline

INPUT_SIZE = (224, 224)
LOSE_THE_GPU = "--lose-the-gpu"
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


def median_ms(*work: Callable[[], None]) -> float:
    """Return how long some calls take together, in milliseconds, the median of many."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for call in work:
            call()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def require(condition: bool, problem: str) -> None:  # noqa: FBT001 - reads like assert
    """Raise ``CheckFailed`` unless the condition holds."""
    if not condition:
        raise CheckFailed(problem)


def check_contexts() -> dict[str, Any]:
    """Contexts come and go with threads, also where a thread forgets to close its own."""
    for closes in (True, False, True):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_use_context, closes=closes).result()
    first, second = PyCuda(), PyCuda()
    first.close()
    buffer = SharedBuffer(second, 1 << 20)
    buffer.free()
    second.close()
    return {"threads": 3, "on one thread": 2}


def _use_context(*, closes: bool) -> None:
    cuda = PyCuda()
    buffer = SharedBuffer(cuda, 1 << 20, mapped=False)
    buffer.upload()
    cuda.synchronize()
    buffer.free()
    if closes:
        cuda.close()


def check_pinned_memory() -> dict[str, Any]:
    """Bytes go to the GPU and come back; how fast, for a 1080p colour image."""
    cuda = PyCuda()
    buffer = SharedBuffer(cuda, 1080 * 1920 * 3, mapped=False)
    _check_round_trip(cuda, buffer)
    up = median_ms(buffer.upload, cuda.synchronize)
    down = median_ms(buffer.download, cuda.synchronize)
    wait = median_ms(cuda.synchronize)
    buffer.free()
    cuda.close()
    megabytes = buffer.host.size / 1e6
    return {
        "megabytes": megabytes,
        "upload_ms": up,
        "download_ms": down,
        "upload_gb_per_s": megabytes / up,
        "empty_wait_ms": wait,
    }


def _check_round_trip(cuda: PyCuda, buffer: SharedBuffer) -> None:
    values = np.arange(buffer.host.size, dtype=np.uint32).astype(np.uint8)
    buffer.host[:] = values
    buffer.upload()
    cuda.synchronize()
    buffer.host[:] = 0
    buffer.download()
    cuda.synchronize()
    require(np.array_equal(buffer.host, values), "bytes changed on their way to the GPU and back")


def check_graphs() -> dict[str, Any]:
    """A recorded copy repeats itself with new bytes; what records nothing is refused."""
    cuda = PyCuda()
    require(cuda.can_capture, "the driver has no CUDA graphs")
    buffer, other = (SharedBuffer(cuda, 1024, mapped=False) for _ in range(2))
    graph = cuda.capture(buffer.upload)
    for value in (3, 7):
        buffer.host[:] = value
        graph.launch()
        cuda.download(other.host, buffer.address)
        cuda.synchronize()
        require(bool((other.host == value).all()), "a graph did not repeat its work")
    graph.free()
    try:
        cuda.capture(lambda: None)
    except EngineError as error:
        refusal = str(error)
    else:
        msg = "an empty graph was accepted"
        raise CheckFailed(msg)
    for each in (buffer, other):
        each.free()
    cuda.close()
    return {"nodes": graph.nodes, "an empty graph": refusal}


def check_lost_gpu() -> dict[str, Any]:
    """An illegal address loses the engine, in a process of its own, which ends in order."""
    done = subprocess.run(
        [sys.executable, "-m", "perception_node.bench.gpu_check", LOSE_THE_GPU],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ended_with_us(),
    )
    require(done.returncode == 0, f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return {"error": done.stdout.strip()}


def lose_the_gpu() -> str:
    """Let a kernel write to an illegal address and return the error that comes of it."""
    cuda = PyCuda()
    preprocessing = load_bundle(find_model("")).manifest.preprocessing
    gpu = GpuPreprocessor(cuda, preprocessing, INPUT_SIZE, 0x10)
    gpu.stage(make_frame("bgr8", 480, 640, 0))
    try:
        gpu.enqueue()
        cuda.synchronize()
    except EngineLost as error:
        cuda.abandon()
        return str(error)
    msg = "a kernel wrote to an illegal address and nothing happened"
    raise CheckFailed(msg)
