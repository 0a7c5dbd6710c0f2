# SPDX-License-Identifier: Apache-2.0
"""The real PyCUDA and our code on it, on the fake driver; run by ``test_pycuda_driver.py``."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from perception_node.bench import gpu_check, gpu_checks, gpu_engine_checks
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.engines.tensorrt.cuda.pycuda_driver import PyCuda
from perception_node.engines.tensorrt.graph_replay import RECORD_AFTER
from perception_node.errors import EngineError, EngineLost, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import smooth
from tests.standin_tensorrt import standin_engine, standin_tensorrt

ILLEGAL_ADDRESS = 700
PIXEL = 12.0 / 255  # one step of a pixel, in logits of the colour network
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_callbacks = []  # must outlive the graphs they are recorded in


@pytest.fixture
def driver():
    driver = ctypes.CDLL("libcuda.so.1")
    driver.fake_break(0)
    driver.fake_set_device(1, 0)
    return driver


@pytest.fixture(scope="module")
def bundle(color_bundle):
    return load_bundle(color_bundle)


def put(stream, job):
    """Put a Python function on a stream."""
    callback = CALLBACK(lambda _: job())
    _callbacks.append(callback)
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuLaunchHostFunc(ctypes.c_void_p(stream), callback, None) == 0


def make_pipeline(bundle):
    return Pipeline(bundle, standin_engine(bundle, PyCuda(), standin_tensorrt(put=put)))


def on_a_thread(job):
    """Do a job on a thread of its own and return or raise what it does."""
    results = []

    def work():
        try:
            results.append((job(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            results.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = results[0]
    if error is not None:
        raise error
    return value


def run_frames(pipeline, reference):
    for seed in range(RECORD_AFTER + 3):
        frame = Frame.from_bgr(smooth(480, 640, seed))
        logits = []
        for each in (pipeline, reference):
            each.run(frame, top_k=1, threshold=0.0)
            logits.append(each.engine.output.copy())
        assert logits[0] == pytest.approx(logits[1], abs=PIXEL)


def state(driver):
    """Return contexts on this thread's stack, uses of the primary one, live objects."""
    return driver.fake_depth(), driver.fake_retained(), driver.fake_live()


@pytest.mark.parametrize("integrated", [0, 1])
def test_the_runtime_gives_the_answers_of_the_cpu_and_leaves_nothing(driver, bundle, integrated):
    driver.fake_set_device(1, integrated)
    before = driver.fake_retained(), driver.fake_live()

    def job():
        pipeline = make_pipeline(bundle)
        with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as reference:
            run_frames(pipeline, reference)
        description = pipeline.description
        pipeline.close()
        return description, state(driver)

    description, after = on_a_thread(job)
    assert description.endswith("fp32, CUDA graph")
    assert after == (0, *before)


def test_engines_of_one_thread_may_be_closed_in_any_order(driver, bundle):
    before = driver.fake_retained(), driver.fake_live()

    def job():
        with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as reference:
            first, second = make_pipeline(bundle), make_pipeline(bundle)
            run_frames(first, reference)
            first.close()
            run_frames(second, reference)
            second.close()
        return state(driver)

    assert on_a_thread(job) == (0, *before)


def test_a_thread_may_end_without_closing_its_engine(bundle):
    """PyCUDA would abort the process."""
    made = on_a_thread(lambda: make_pipeline(bundle))
    assert made.description


def test_a_lost_context_is_found_out_and_left(driver, bundle):
    def job():
        pipeline = make_pipeline(bundle)
        pipeline.warm_up()
        driver.fake_break(ILLEGAL_ADDRESS)
        for complaint in ("illegal memory access", "failed before"):
            with pytest.raises(EngineLost, match=complaint):
                pipeline.run(Frame.from_bgr(smooth()), top_k=1, threshold=0.0)
        live = driver.fake_live()
        pipeline.close()
        assert driver.fake_depth() == 0
        assert driver.fake_live() == live
        with pytest.raises(EngineError, match="illegal memory access"):
            PyCuda()
        assert driver.fake_depth() == 0

    on_a_thread(job)


def test_too_much_memory_is_an_error_of_this_call_alone(driver):
    cuda = PyCuda()
    with pytest.raises(EngineError, match="cuMemHostAlloc failed") as caught:
        SharedBuffer(cuda, (1 << 30) + 1, mapped=True)
    assert not isinstance(caught.value, EngineLost)
    buffer = SharedBuffer(cuda, 8)
    buffer.free()
    cuda.close()
    assert driver.fake_depth() == 0


def test_the_process_may_end_without_closing(bundle):
    """PyCUDA would abort it; ``test_pycuda_driver.py`` sees that this ends well."""
    _callbacks.append(make_pipeline(bundle))


def test_what_does_not_compile_is_an_error_in_one_line():
    cuda = PyCuda()
    with pytest.raises(EngineError, match="error") as caught:
        cuda.compile("this is no C++", "kernel")
    assert "\n" not in str(caught.value)
    cuda.close()


def test_work_runs_when_it_is_waited_for():
    cuda = PyCuda()
    buffer = SharedBuffer(cuda, 8, mapped=False)
    buffer.host[:] = 5
    buffer.upload()
    buffer.download()
    buffer.host[:] = 9
    cuda.synchronize()
    assert np.all(buffer.host == 9)
    cuda.close()


def test_no_gpu_is_an_error_that_says_so(driver):
    driver.fake_set_device(0, 0)
    assert find_gpu() is None
    with pytest.raises(EnvironmentLacks, match="no NVIDIA GPU"):
        PyCuda()


@pytest.mark.parametrize("name", gpu_check.CHECKS)
@pytest.mark.usefixtures("driver")
def test_the_gpu_check_passes(name, monkeypatch):
    monkeypatch.setattr(gpu_checks, "ROUNDS", 2)
    monkeypatch.setattr(gpu_engine_checks, "SIZES", ((60, 80),))
    monkeypatch.setattr(gpu_engine_checks, "ODD_SIZES", ((5, 7),))
    outcome = gpu_check.run_check(name, gpu_check.CHECKS[name])
    assert outcome.state == ("skipped" if name == "engine of TensorRT" else "ok"), outcome.problem
