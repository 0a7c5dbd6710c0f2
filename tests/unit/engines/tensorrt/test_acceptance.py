# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception_node.engines.base import Engine
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.tensorrt.acceptance import IMAGES, TOLERANCES, accept_plan
from perception_node.errors import EngineBuildError, EngineError
from perception_node.model.bundle import Output, load_bundle
from tests.builders import MANIFEST, color_network, make_bundle


@pytest.fixture
def bundle(color_bundle):
    return load_bundle(color_bundle)


class Standin(Engine):
    """The reference itself, with an output that a test changes."""

    def __init__(self, bundle, change=lambda output, _run: output) -> None:
        self._engine = OnnxRuntimeEngine(bundle)
        self._change = change
        self._runs = 0
        self.input, self.output = self._engine.input, np.empty_like(self._engine.output)
        self.description = "stand-in"
        self.is_open = True

    def infer(self) -> None:
        self._engine.infer()
        self._runs += 1
        self.output[:] = self._change(self._engine.output, self._runs)

    def close(self) -> None:
        self.is_open = False


def test_a_plan_that_does_what_the_model_does_is_accepted(bundle):
    engine = Standin(bundle, lambda output, _run: output * 1.001)
    report = accept_plan(bundle, "fp16", lambda: engine)
    assert report["done"] is True
    assert (report["images"], report["same_label"]) == (IMAGES, IMAGES)
    assert 0.0 < report["difference"] < report["tolerance"] == TOLERANCES["fp16"]
    assert report["infer_ms"] > 0.0
    assert report["engine"] == "stand-in"
    assert not engine.is_open


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda output, _run: output + 0.1 * np.ptp(output), "differs from the model's by"),
        (lambda output, _run: output[:, ::-1], "differs"),
        (lambda output, run: output * (1 + 1e-6 * run), "another output for the same input"),
        (lambda output, _run: np.ones_like(output), "same output for different inputs"),
        (lambda output, _run: output * np.nan, "NaN"),
        (lambda output, _run: output / 0.0, "infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_plan_that_does_something_else_is_refused(bundle, change, problem):
    engine = Standin(bundle, change)
    with pytest.raises(EngineBuildError, match=problem):
        accept_plan(bundle, "fp16", lambda: engine)
    assert not engine.is_open


def test_int8_may_differ_more_than_fp16_and_that_more_than_fp32(bundle):
    assert TOLERANCES["fp32"] < TOLERANCES["fp16"] < TOLERANCES["int8"]
    outputs = np.array([[1.0, 0.0, -1.0]])

    def change(output, _run):
        return output + 0.1 * outputs

    accept_plan(bundle, "int8", lambda: Standin(bundle, change))
    with pytest.raises(EngineBuildError):
        accept_plan(bundle, "fp32", lambda: Standin(bundle, change))


def test_a_model_that_is_sure_of_every_image_can_be_accepted(tmp_path):
    """Its probabilities are 0 and 1: equal for images of the same class."""
    manifest = replace(MANIFEST, output=Output("logits", "probabilities", 3))
    network = color_network(gain=1e5, softmax=True)
    bundle = load_bundle(make_bundle(tmp_path / "sure", network, manifest))
    report = accept_plan(bundle, "fp32", lambda: OnnxRuntimeEngine(bundle))
    assert report["same_label"] == IMAGES
    with pytest.raises(EngineBuildError, match="same output for different inputs"):
        accept_plan(bundle, "fp32", lambda: Standin(bundle, lambda *_: np.float32([[1, 0, 0]])))


def test_a_model_whose_own_output_is_not_finite_proves_nothing(tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "nan", color_network(gain=np.nan)))
    engine = Standin(bundle, lambda *_: np.float32([[1, 0, 0]]))
    with pytest.raises(EngineBuildError, match="nan in ONNX Runtime holds NaN"):
        accept_plan(bundle, "fp32", lambda: engine)


def test_an_engine_that_cannot_be_made_is_an_error(bundle):
    def fail():
        msg = "out of memory"
        raise EngineError(msg)

    with pytest.raises(EngineError, match="out of memory"):
        accept_plan(bundle, "fp16", fail)


def test_an_engine_that_fails_is_closed(bundle):
    def fail(_output, _run):
        msg = "launch failed"
        raise EngineError(msg)

    engine = Standin(bundle, fail)
    with pytest.raises(EngineError, match="launch failed"):
        accept_plan(bundle, "fp16", lambda: engine)
    assert not engine.is_open
