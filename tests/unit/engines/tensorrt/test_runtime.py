# SPDX-License-Identifier: Apache-2.0
"""The whole runtime on a stand-in: the camera's bytes go in, the CPU's answer must come out."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.tensorrt.graph_replay import RECORD_AFTER
from perception_node.errors import EngineError, EngineLost, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from perception_node.vision.encodings import ENCODINGS
from perception_node.vision.frame import Frame
from tests.builders import smooth
from tests.cuda_host import host_kernel
from tests.standin_cuda import StandinCuda
from tests.standin_tensorrt import standin_engine, standin_tensorrt

pytestmark = pytest.mark.skipif(
    host_kernel.compiler() is None, reason="no C++ compiler for the CUDA kernel on the host"
)
PIXEL = 12.0 / 255  # one step of a pixel, in logits of the colour network


@pytest.fixture(scope="module")
def bundle(color_bundle):
    return load_bundle(color_bundle)


@pytest.fixture(scope="module")
def reference(bundle):
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        yield pipeline


class Rig:
    """A pipeline over the runtime on a stand-in; ``logits`` are what a frame gives."""

    def __init__(self, bundle, trt=None, **options):
        debug = options.pop("debug", False)
        self.cuda = StandinCuda(**options)
        self.engine = standin_engine(bundle, self.cuda, trt, debug=debug)
        self.pipeline = Pipeline(bundle, self.engine)

    def logits(self, frame):
        return logits(self.pipeline, frame)


def logits(pipeline, frame):
    pipeline.run(frame, top_k=1, threshold=0.0)
    return pipeline.engine.output.copy()


def frame_of(encoding, height=48, width=64, seed=0, padding=0):
    """Return a frame of random smooth bytes, which is a picture in any encoding."""
    layout = ENCODINGS[encoding]
    rows, row_bytes = int(height * layout.rows_per_height), width * layout.pixel_bytes
    data = smooth(rows, row_bytes + padding, seed)[..., 0].copy()
    pixels = data[:, :row_bytes]
    if layout.pixel_bytes > 1:
        shape, strides = (rows, width, layout.pixel_bytes), (row_bytes + padding, 1)
        pixels = np.ndarray(shape, np.uint8, data, 0, (strides[0], layout.pixel_bytes, 1))
    return Frame(pixels, encoding, height, width, False, 0, "camera")


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_answer_of_the_cpu(bundle, reference, encoding, integrated):
    rig = Rig(bundle, integrated=integrated)
    for seed in range(RECORD_AFTER + 3):
        frame = frame_of(encoding, seed=seed, padding=16)
        assert rig.logits(frame) == pytest.approx(logits(reference, frame), abs=PIXEL)
    assert rig.engine.description.endswith("CUDA graph")
    rig.pipeline.close()


def test_sizes_and_encodings_may_change_from_frame_to_frame(bundle, reference):
    rig = Rig(bundle)
    sizes = [(48, 64), (480, 640), (30, 20), (480, 640)]
    for seed, (height, width) in enumerate(sizes * 2):
        for encoding in ("rgb8", "nv12"):
            frame = frame_of(encoding, height, width, seed)
            assert rig.logits(frame) == pytest.approx(logits(reference, frame), abs=PIXEL)
    rig.pipeline.close()


def test_a_graph_is_recorded_again_for_another_camera(bundle, reference):
    rig = Rig(bundle)
    for size in ((48, 64), (480, 640), (48, 64)):
        for seed in range(RECORD_AFTER + 2):
            frame = frame_of("bgr8", *size, seed)
            assert rig.logits(frame) == pytest.approx(logits(reference, frame), abs=PIXEL)
    assert rig.cuda.calls["capture"] == 3
    rig.pipeline.close()


def test_an_integrated_gpu_copies_nothing(bundle):
    rig = Rig(bundle, integrated=True)
    for seed in range(8):
        rig.logits(frame_of("bgr8", seed=seed))
    assert rig.cuda.copied == 0
    assert rig.cuda.calls["device_memory"] == 1, "the network's input, which only the GPU sees"
    rig.pipeline.close()


def test_a_discrete_gpu_gets_the_bytes_of_the_frame_and_no_more(bundle):
    rig = Rig(bundle)
    rig.logits(frame_of("bgr8", 480, 640))
    before = rig.cuda.copied
    rig.logits(frame_of("bgr8", 48, 64, padding=16))
    assert rig.cuda.copied - before == 48 * 64 * 3 + rig.engine.output.nbytes
    rig.pipeline.close()


def test_a_recorded_frame_is_one_launch_and_one_wait(bundle):
    rig = Rig(bundle)
    for seed in range(8):
        rig.logits(frame_of("bgr8", seed=seed))
    before = rig.cuda.calls.copy()
    rig.logits(frame_of("bgr8"))
    assert rig.cuda.calls - before == {"launch graph": 1, "synchronize": 1}
    rig.pipeline.close()


def test_input_can_be_written_by_hand_after_a_frame(bundle):
    rig = Rig(bundle)
    rig.logits(frame_of("bgr8"))
    rig.engine.input[:] = np.array([0.25, 0.5, 0.75], np.float32).reshape(1, 3, 1, 1)
    rig.engine.infer()
    assert rig.engine.output == pytest.approx(np.array([[3.0, 6.0, 9.0]]), abs=1e-4)
    rig.pipeline.close()


def test_the_description_says_what_runs(bundle):
    rig = Rig(bundle, can_capture=False)
    assert rig.engine.description == (
        "TensorRT 10.3.0, Stand-in (8.7), fp32, no CUDA graph: the driver has no CUDA graphs"
    )
    rig.pipeline.close()


def test_without_a_compiler_the_cpu_prepares_the_frames(bundle, reference, monkeypatch):
    def no_compiler(*_):
        msg = "nvcc is not here"
        raise EnvironmentLacks(msg)

    monkeypatch.setattr(StandinCuda, "compile", no_compiler)
    rig = Rig(bundle)
    assert "preprocessing on the CPU: nvcc is not here" in rig.engine.description
    for seed in range(8):
        frame = frame_of("bgr8", seed=seed)
        assert rig.logits(frame) == pytest.approx(logits(reference, frame), abs=1e-4)
    rig.pipeline.close()


@pytest.mark.parametrize("integrated", [False, True])
def test_any_call_that_fails_is_an_error_and_nothing_is_left(bundle, integrated):
    """``StandinCuda.close`` checks that all was freed; here each call fails in turn."""
    failed, number = 0, 0
    while fails_at(bundle, number, integrated=integrated):
        failed, number = failed + 1, number + 1
    assert failed > 20


def fails_at(bundle, number, *, integrated):
    """Run some frames with one call failing; return whether there was a call of that number."""
    cuda = StandinCuda(integrated=integrated, fail_at=number)
    engine = None
    try:
        engine = standin_engine(bundle, cuda)
        pipeline = Pipeline(bundle, engine)
        for size in (48, 64):
            for seed in range(RECORD_AFTER + 2):
                pipeline.run(frame_of("bgr8", size, size, seed), top_k=1, threshold=0.0)
    except EngineLost:
        pytest.fail("the context is in order")
    except EngineError:
        pass
    if engine is not None:
        engine.close()
    assert not cuda.is_open
    assert not cuda.was_abandoned
    return sum(cuda.calls.values()) > number


def test_a_context_that_is_lost_at_any_call_is_left_alone(bundle):
    number = 0
    while loses_at(bundle, number):
        number += 1
    assert number > 20


def loses_at(bundle, number):
    cuda = StandinCuda(fail_at=number, how="sticky")
    engine = None
    try:
        engine = standin_engine(bundle, cuda)
        pipeline = Pipeline(bundle, engine)
        for seed in range(RECORD_AFTER + 2):
            pipeline.run(frame_of("bgr8", seed=seed), top_k=1, threshold=0.0)
    except EngineLost:
        calls = cuda.calls.copy()
        if engine is not None:
            with pytest.raises(EngineLost):
                engine.infer()
            engine.close()
        assert cuda.was_abandoned
        assert cuda.calls == calls, "a broken context was used again"
        return True
    engine.close()
    assert not cuda.was_abandoned
    return False


def test_a_false_return_is_an_error_with_what_tensorrt_logged(bundle):
    answers = [None, False, None]
    rig = Rig(bundle, standin_tensorrt(before=lambda: answers.pop(0)))
    rig.logits(frame_of("bgr8"))
    with pytest.raises(
        EngineError, match=r"could not start the network .*a tactic failed"
    ) as caught:
        rig.logits(frame_of("bgr8"))
    assert not isinstance(caught.value, EngineLost)
    rig.logits(frame_of("bgr8"))
    rig.pipeline.close()


def test_a_false_return_with_a_broken_gpu_is_a_lost_engine(bundle):
    def broken():
        rig.cuda.break_context()
        return False

    rig = Rig(bundle, standin_tensorrt(before=broken))
    with pytest.raises(EngineLost, match=r"a tactic failed.*context is lost"):
        rig.logits(frame_of("bgr8"))
    rig.pipeline.close()
    assert rig.cuda.was_abandoned


def test_a_network_that_does_nothing_is_found_out_in_debug(bundle):
    answers = [None] * 2
    trt = standin_tensorrt(before=lambda: answers.pop() if answers else True)
    rig = Rig(bundle, trt, debug=True)
    for _ in range(2):
        rig.logits(frame_of("bgr8"))
    with pytest.raises(EngineError, match="left NaN in its output"):
        rig.logits(frame_of("bgr8"))
    rig.pipeline.close()


def test_debug_changes_no_result(bundle, reference):
    rig = Rig(bundle, debug=True)
    for seed in range(RECORD_AFTER + 3):
        frame = frame_of("bgr8", seed=seed)
        assert rig.logits(frame) == pytest.approx(logits(reference, frame), abs=PIXEL)
    assert rig.engine.description.endswith("CUDA graph")
    rig.pipeline.close()


def test_another_thread_must_not_use_or_close_the_engine(bundle):
    rig = Rig(bundle)
    refused = []

    def meddle():
        for action in (rig.engine.infer, rig.engine.close):
            try:
                action()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=meddle)
    thread.start()
    thread.join()
    assert len(refused) == 2
    assert "on the thread that made it" in refused[0]
    rig.pipeline.close()


def test_what_was_read_last_can_be_read_after_closing(bundle):
    rig = Rig(bundle)
    last = rig.logits(frame_of("bgr8"))
    rig.pipeline.close()
    assert np.array_equal(rig.engine.output, last)


def test_a_plan_that_is_refused_leaves_nothing_behind(bundle):
    cuda = StandinCuda()
    with pytest.raises(EngineError, match="out of memory"):
        standin_engine(bundle, cuda, standin_tensorrt(has_context=False))
    assert not cuda.is_open
