# SPDX-License-Identifier: Apache-2.0
"""The checks of ``gpu_check`` on what the engine does: its kernel, and a frame from end to end.

As in ``gpu_checks.py`` each returns what it measured and raises where something is wrong.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from perception_node.bench.camera.load_sources import read_pictures
from perception_node.bench.gpu_checks import (
    CheckSkipped,
    latency,
    make_frame,
    median_ms,
    require,
)
from perception_node.bench.standin_network import stand_in_network, stand_in_output
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.plans import PlanStore
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.build import ensure_plan
from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.engines.tensorrt.cuda.kernel import READABLE
from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
from perception_node.engines.tensorrt.gpu_preprocessor import GpuPreprocessor
from perception_node.engines.tensorrt.runtime import TensorRtEngine
from perception_node.errors import EnvironmentLacks
from perception_node.model.bundle import CROPPING, Preprocessing, load_bundle
from perception_node.system.resources import find_model
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import Frame
from perception_node.vision.preprocess import FramePreprocessor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.model.bundle import Interpolation, ModelBundle, ResizeMode

INPUT = (1, 3, 224, 224)
SIZES = ((480, 640), (720, 1280), (1080, 1920))  # of cameras: height, width
ODD_SIZES = ((37, 53), (241, 321), (5, 7))
MODES: tuple[tuple[ResizeMode, Interpolation], ...] = (
    ("stretch", "bilinear"),
    ("shorter-side", "bicubic"),
    ("letterbox", "bilinear"),
    ("stretch-crop", "bilinear-aliased"),
    ("pad-square", "nearest"),
)
GREY_LEVEL = 1.001  # the largest difference allowed, in pixel values 0 to 255
REPEATS = 10  # launches between two waits


def check_kernel() -> dict[str, Any]:
    """The kernel makes the CPU's pixels of every encoding, size and way to resize."""
    cuda = PyCuda()
    differences = [
        _compare(cuda, make_frame(encoding, *size, seed), *mode)
        for seed, size in enumerate(ODD_SIZES + SIZES[::2])
        for encoding in sorted(READABLE)
        for mode in MODES
        if not (ENCODINGS[encoding].even and size in ODD_SIZES)
    ]
    cuda.close()
    worst = max(float(each.max()) for each in differences)
    require(worst <= GREY_LEVEL, f"a pixel is off by {worst:.2f} of 255")
    means = [float(each.mean()) for each in differences]
    return {
        "frames": len(differences),
        "worst_grey_levels": worst,
        "mean_grey_levels": float(np.mean(means)),
    }


def _compare(
    cuda: PyCuda, frame: Frame, resize: ResizeMode, interpolation: Interpolation
) -> NDArray[np.float32]:
    preprocessing = Preprocessing(
        color="RGB",
        resize=resize,
        shorter_side=256 if resize in CROPPING else 0,
        interpolation=interpolation,
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    expected = np.empty(INPUT, np.float32)
    FramePreprocessor(preprocessing, expected)(frame)
    target = SharedBuffer(cuda, expected.nbytes, mapped=False)
    gpu = GpuPreprocessor(cuda, preprocessing, INPUT[2:], target.address)
    gpu.stage(frame)
    gpu.enqueue()
    target.download()
    cuda.synchronize()
    found = target.host.view(np.float32).reshape(INPUT).copy()
    gpu.free()
    target.free()
    return cast("NDArray[np.float32]", np.abs(found - expected))


def check_kernel_speed() -> dict[str, Any]:
    """How long the kernel takes, per frame, with the frame on the GPU; and what the CPU takes."""
    cuda = PyCuda()
    target = SharedBuffer(cuda, 4 * int(np.prod(INPUT)), mapped=False)
    preprocessing = load_bundle(find_model("")).manifest.preprocessing
    on_cpu = FramePreprocessor(preprocessing, np.empty(INPUT, np.float32))
    times: dict[str, Any] = {}
    for height, width in SIZES:
        for encoding in ("bgr8", "nv12"):
            frame = make_frame(encoding, height, width, 0)
            gpu = GpuPreprocessor(cuda, preprocessing, INPUT[2:], target.address)
            gpu.stage(frame)
            many = median_ms(*[gpu.enqueue] * REPEATS, cuda.synchronize)
            times[f"{width}x{height} {encoding}"] = {
                "upload_and_kernel_ms": many / REPEATS,
                "stage_ms": median_ms(partial(gpu.stage, frame)),
                "cpu_ms": median_ms(partial(on_cpu, frame)),
            }
            gpu.free()
    target.free()
    cuda.close()
    return times


def check_runtime() -> dict[str, Any]:
    """The whole engine around a stand-in network: right results and latency, in every way."""
    bundle = load_bundle(find_model(""))
    return {
        f"{'mapped' if mapped else 'pinned'}, {'graph' if recorded else 'no graph'}": _run_engine(
            bundle, mapped=mapped, recorded=recorded
        )
        for mapped in (False, True)
        for recorded in (False, True)
    }


def _run_engine(bundle: ModelBundle, *, mapped: bool, recorded: bool) -> dict[str, Any]:
    cuda = PyCuda()
    cuda.gpu = replace(cuda.gpu, integrated=mapped)
    cuda.can_capture = recorded
    trt = stand_in_network(bundle, cuda)
    engine = TensorRtEngine(bundle, b"", trt, cuda, precision="fp32", debug=False)
    expected = np.empty(INPUT, np.float32)
    on_cpu = FramePreprocessor(bundle.manifest.preprocessing, expected)
    limit = GREY_LEVEL * bundle.manifest.preprocessing.scale
    limit /= min(bundle.manifest.preprocessing.std)
    times: dict[str, Any] = {}
    with Pipeline(bundle, engine) as pipeline:
        for height, width in SIZES:
            for seed in range(8):
                frame = make_frame("bgr8", height, width, seed)
                pipeline.run(frame, top_k=5, threshold=0.0)
                on_cpu(frame)
                difference = np.abs(
                    engine.output - stand_in_output(expected, engine.output.size)
                ).max()
                require(difference <= limit, f"an output is off by {difference:.4f}")
            require(engine.description.endswith("CUDA graph") == recorded, engine.description)
            times[f"{width}x{height}"] = latency(pipeline, frame)
    return times


def check_tensorrt() -> dict[str, Any]:
    """TensorRT builds the bundle's model, and its engine answers as ONNX Runtime does.

    Raises:
        CheckSkipped: TensorRT is not here.

    """
    try:
        trt = load_tensorrt("tensorrt")
    except EnvironmentLacks as error:
        raise CheckSkipped(str(error)) from error
    bundle = load_bundle(find_model(""))
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        plan = ensure_plan(bundle, "fp16", "tensorrt", PlanStore(Path(folder) / "plans"))
        seconds = time.monotonic() - start
        engine = TensorRtEngine(bundle, plan.read(), trt, PyCuda(), precision="fp16")
    frames = [Frame.from_bgr(picture) for picture in read_pictures()]
    reference = Pipeline(bundle, OnnxRuntimeEngine(bundle))
    with Pipeline(bundle, engine) as pipeline, reference:
        same = [_first(pipeline, frame) == _first(reference, frame) for frame in frames]
        pipeline.warm_up()
        times = latency(pipeline, make_frame("bgr8", *SIZES[0], 0))
    return {
        "engine": engine.description,
        "build_s": seconds,
        "pictures": len(frames),
        "same_first_answer": sum(same),
        "640x480": times,
    }


def _first(pipeline: Pipeline, frame: Frame) -> str:
    return pipeline.run(frame, top_k=1, threshold=0.0).hypotheses[0].label
