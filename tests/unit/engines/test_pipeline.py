# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from perception_node.config.sections import ModelConfig
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline, StageTimes
from perception_node.engines.selection import load_pipeline
from perception_node.errors import (
    ConfigError,
    EngineError,
    LabelMismatch,
    ModelFormatError,
    ModelIntegrityError,
)
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import (
    BLUE,
    GREEN,
    LABELS,
    MANIFEST,
    RED,
    color_network,
    make_bundle,
    smooth,
    solid,
    to_onnx,
    with_preprocessing,
)

COLORS = {"red": RED, "green": GREEN, "blue": BLUE}


def frame_of(rgb, **fields):
    return Frame.from_bgr(np.ascontiguousarray(rgb[..., ::-1]), **fields)


def classify(pipeline, frame, *, top_k=5, threshold=0.0):
    return pipeline.run(frame, top_k=top_k, threshold=threshold)


@pytest.fixture(scope="module")
def pipeline(color_bundle):
    with load_pipeline(ModelConfig(model=str(color_bundle), threads=1)) as pipeline:
        yield pipeline


@pytest.mark.parametrize("color", COLORS)
def test_a_colour_is_recognised_with_its_probability(pipeline, color):
    prediction = classify(pipeline, frame_of(solid(COLORS[color]), stamp_ns=7, frame_id="lens"))
    best = prediction.hypotheses[0]
    assert (best.label, best.class_id) == (color, LABELS.index(color))
    certain = np.exp(12) / (np.exp(12) + 2)
    assert best.score == pytest.approx(certain, abs=1e-6)
    assert sum(h.score for h in prediction.hypotheses) == pytest.approx(1.0, abs=1e-6)
    assert (prediction.stamp_ns, prediction.frame_id) == (7, "lens")


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_the_encoding_decides_what_is_red(pipeline, encoding):
    pixels = np.full((10, 12, len(encoding) - 1), 255, np.uint8)
    for index, channel in enumerate(encoding[:-1]):
        pixels[..., index] = {"r": 255, "g": 0, "b": 0, "a": 255}[channel]
    frame = Frame(pixels, encoding, 10, 12, is_bigendian=False, stamp_ns=0, frame_id="")
    assert classify(pipeline, frame).hypotheses[0].label == "red"


def test_top_k_and_threshold_belong_to_each_frame(pipeline):
    frame = frame_of(solid(RED))
    assert len(classify(pipeline, frame, top_k=2).hypotheses) == 2
    assert len(classify(pipeline, frame, threshold=0.5).hypotheses) == 1
    assert len(classify(pipeline, frame).hypotheses) == 3
    grey = frame_of(solid((9, 9, 9)))
    assert classify(pipeline, grey, threshold=0.9).hypotheses == ()


def test_the_same_frame_gives_the_same_result_after_others(pipeline):
    frame = frame_of(smooth(90, 120))
    first = classify(pipeline, frame).hypotheses
    for size in ((48, 64), (300, 200)):
        classify(pipeline, frame_of(solid(BLUE, *size)))
    assert classify(pipeline, frame).hypotheses == first


def test_each_stage_is_timed(color_bundle):
    ticks = iter([100, 103, 110, 131])
    bundle = load_bundle(color_bundle)
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1), clock=lambda: next(ticks)) as pipeline:
        times = classify(pipeline, frame_of(solid(RED))).times
    assert times == StageTimes(preprocess_ns=3, infer_ns=7, postprocess_ns=21)


def test_warming_up_measures_the_usual_frame(color_bundle):
    """The first may take far longer."""
    bundle, now = load_bundle(color_bundle), 0
    durations = [900, 30, 20, 10, 31, 32, 11, 12, 13, 400]  # median 30 or 31
    runs = iter(durations)

    class Slow(OnnxRuntimeEngine):
        def infer(self):
            nonlocal now
            super().infer()
            now += next(runs)

    with Pipeline(bundle, Slow(bundle, 1), clock=lambda: now) as pipeline:
        assert pipeline.warm_up() in {30, 31}
    assert list(runs) == []


def test_the_preprocessing_of_the_bundle_is_used(tmp_path):
    """The network sees red in the first plane; a BGR model gets blue there."""
    path = make_bundle(tmp_path / "bgr", manifest=with_preprocessing(color="BGR"))
    with load_pipeline(ModelConfig(model=str(path))) as pipeline:
        assert classify(pipeline, frame_of(solid(BLUE))).hypotheses[0].label == "red"


def test_probabilities_are_taken_as_they_are(tmp_path):
    manifest = replace(MANIFEST, output=replace(MANIFEST.output, kind="probabilities"))
    path = make_bundle(tmp_path / "p", color_network(softmax=True), manifest)
    with load_pipeline(ModelConfig(model=str(path))) as pipeline:
        best = classify(pipeline, frame_of(solid(GREEN))).hypotheses[0]
    assert best.label == "green"
    assert best.score == pytest.approx(np.exp(12) / (np.exp(12) + 2), abs=1e-6)


def test_multi_label_scores_are_independent_and_have_their_thresholds(tmp_path):
    output = replace(MANIFEST.output, kind="sigmoid-logits", thresholds=(0.9, 0.5, 0.6))
    path = make_bundle(tmp_path / "m", color_network(1.0), replace(MANIFEST, output=output))
    with load_pipeline(ModelConfig(model=str(path))) as pipeline:
        (best,) = classify(pipeline, frame_of(solid((255, 255, 0)))).hypotheses
    assert best.label == "green"
    assert best.score == pytest.approx(1.0 / (1.0 + np.exp(-1.0)), abs=1e-6)


def test_images_are_decoded_no_larger_than_needed(tmp_path, pipeline):
    assert pipeline.smallest_side == 16
    manifest = with_preprocessing(resize="shorter-side", shorter_side=100)
    with load_pipeline(
        ModelConfig(model=str(make_bundle(tmp_path / "b", manifest=manifest)))
    ) as other:
        assert other.smallest_side == 200


# Models that cannot be used are found out when they are loaded


def nan_network():
    """0 / 0 on a black image."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("Div", ["means", "means"], ["logits"]),
        ],
        "nan",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
    )
    return to_onnx(graph)


def test_a_model_that_gives_nan_is_refused(tmp_path):
    path = make_bundle(tmp_path / "nan", nan_network())
    with pytest.raises(EngineError, match="3 of 3 output values are NaN"):
        load_pipeline(ModelConfig(model=str(path)))


def test_logits_that_are_called_probabilities_are_refused(tmp_path):
    manifest = replace(MANIFEST, output=replace(MANIFEST.output, kind="probabilities"))
    manifest = replace(
        manifest,
        preprocessing=replace(MANIFEST.preprocessing, mean=(-1.0, 0.0, 1.0)),
    )
    with pytest.raises(EngineError, match="no probabilities"):
        load_pipeline(ModelConfig(model=str(make_bundle(tmp_path / "p", manifest=manifest))))


def test_errors_of_the_bundle_arrive_unchanged(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        load_pipeline(ModelConfig(model=str(tmp_path / "nowhere")))
    with pytest.raises(ModelFormatError, match=r"bundle\.json: cannot be read"):
        load_pipeline(ModelConfig(model=str(tmp_path)))
    with pytest.raises(LabelMismatch, match="2 labels"):
        load_pipeline(
            ModelConfig(model=str(make_bundle(tmp_path / "few", labels=("red", "green"))))
        )
    damaged = make_bundle(tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(color_network(gain=3.0))
    with pytest.raises(ModelIntegrityError, match=r"model\.onnx"):
        load_pipeline(ModelConfig(model=str(damaged)))


def test_an_engine_that_cannot_prepare_frames_is_freed(color_bundle, monkeypatch):
    bundle, closed = load_bundle(color_bundle), []
    engine = OnnxRuntimeEngine(bundle, 1)

    def fail(_preprocessing):
        raise EngineError("no memory")

    monkeypatch.setattr(engine, "preprocessor", fail)
    monkeypatch.setattr(engine, "close", lambda: closed.append(True))
    with pytest.raises(EngineError, match="no memory"):
        Pipeline(bundle, engine)
    assert closed == [True]
