# SPDX-License-Identifier: Apache-2.0
"""What every engine must do; a new engine adds a line to ``ENGINES`` and passes all of it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from perception_node.engines.base import Engine
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.errors import EngineError, ModelError, PerceptionError
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT, color_network, make_bundle
from tests.standin_cuda import StandinCuda
from tests.standin_tensorrt import standin_engine

ENGINES = {
    "onnxruntime, 1 thread": lambda bundle: OnnxRuntimeEngine(bundle, 1),
    "onnxruntime, 2 threads": lambda bundle: OnnxRuntimeEngine(bundle, 2),
    "tensorrt on a stand-in for a discrete GPU": standin_engine,
    "tensorrt on a stand-in for an integrated GPU": lambda bundle: standin_engine(
        bundle, StandinCuda(integrated=True)
    ),
    "tensorrt on a stand-in, checking itself": lambda bundle: standin_engine(bundle, debug=True),
}
TOLERANCE = 1e-4  # of a logit, between float32 engines


@pytest.fixture(scope="module", params=ENGINES)
def make_engine(request):
    return ENGINES[request.param]


@pytest.fixture(scope="module", params=["colors", "efficientnet_lite0"])
def bundle(request, color_bundle):
    models = {"colors": color_bundle, "efficientnet_lite0": ROOT / "models/efficientnet_lite0"}
    return load_bundle(models[request.param])


@pytest.fixture(scope="module")
def shared_engine(make_engine, bundle):
    engine = make_engine(bundle)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine):
    shared_engine.input[:] = 0.0
    return shared_engine


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0.0, 1.0, shape).astype(np.float32)


def run(engine, values):
    engine.input[:] = values
    engine.infer()
    return engine.output.copy()


def test_it_is_an_engine_with_a_description(engine):
    assert isinstance(engine, Engine)
    assert len(engine.description) > 10
    assert engine.description.isprintable()


def test_buffers_have_the_shape_of_the_bundle(engine, bundle):
    size, output = bundle.manifest.input, bundle.manifest.output
    assert engine.input.shape == (1, 3, size.height, size.width)
    assert engine.output.shape == (1, output.classes)
    for buffer in (engine.input, engine.output):
        assert buffer.dtype == np.float32
        assert buffer.flags.c_contiguous
        assert buffer.flags.writeable


def test_buffers_stay_where_they_are(engine):
    buffers = engine.input, engine.output
    places = [buffer.ctypes.data for buffer in buffers]
    for seed in range(3):
        run(engine, noise(engine.input.shape, seed))
    assert engine.input is buffers[0]
    assert engine.output is buffers[1]
    assert [buffer.ctypes.data for buffer in buffers] == places


def test_the_input_is_not_changed(engine):
    values = noise(engine.input.shape)
    run(engine, values)
    assert np.array_equal(engine.input, values)


def test_the_same_input_gives_the_same_output(engine):
    values = noise(engine.input.shape)
    first = run(engine, values)
    run(engine, noise(engine.input.shape, 1))
    assert np.array_equal(run(engine, values), first)


def test_another_input_gives_another_output(engine):
    first = run(engine, noise(engine.input.shape))
    assert not np.array_equal(run(engine, noise(engine.input.shape, 1)), first)


def test_every_output_is_written(engine):
    engine.output[:] = np.nan
    assert np.isfinite(run(engine, noise(engine.input.shape))).all()


def test_the_output_is_that_of_the_plain_model(engine, bundle):
    session = ort.InferenceSession(bundle.read(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for seed in range(3):
        values = noise(engine.input.shape, seed)
        (expected,) = session.run(None, {name: values})
        assert run(engine, values) == pytest.approx(expected, abs=TOLERANCE)


def test_inference_does_not_grow(engine):
    """Neither in Python nor, by more than an allocator's arena, in the process."""
    runs = 200 if engine.input.size < 1000 else 30
    for _ in range(5):
        engine.infer()
    before = resident_bytes()
    tracemalloc.start()
    try:
        for _ in range(runs):
            engine.infer()
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()
    assert resident_bytes() - before < 4e6


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_closing_twice_is_allowed(make_engine, color_bundle):
    engine = make_engine(load_bundle(color_bundle))
    engine.infer()
    engine.close()
    engine.close()


def test_engines_do_not_share_buffers(make_engine, color_bundle):
    bundle = load_bundle(color_bundle)
    one, other = make_engine(bundle), make_engine(bundle)
    run(one, 1.0)
    before = one.output.copy()
    run(other, 0.5)
    assert np.array_equal(one.output, before)
    assert not np.shares_memory(one.input, other.input)
    one.close()
    assert np.isfinite(run(other, 0.25)).all()
    other.close()


@pytest.mark.parametrize(
    "model", [b"", b"garbage", color_network(shape=(1, 4, 8, 8)), color_network(classes=4)]
)
def test_a_model_that_does_not_fit_is_an_error_that_names_the_bundle(make_engine, tmp_path, model):
    bundle = load_bundle(make_bundle(tmp_path / "bad", model))
    with pytest.raises((ModelError, EngineError), match=str(bundle.path)):
        make_engine(bundle)


def test_a_model_that_was_changed_is_refused(make_engine, tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "changed"))
    (tmp_path / "changed/model.onnx").write_bytes(color_network(gain=4.0))
    with pytest.raises(PerceptionError, match="sha256"):
        make_engine(bundle)
