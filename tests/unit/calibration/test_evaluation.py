# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from perception_node.calibration import evaluation as module
from perception_node.calibration.evaluation import (
    evaluate,
    models_of,
    store_evaluation,
)
from perception_node.calibration.images import open_images
from perception_node.calibration.judging import Limits
from perception_node.errors import CalibrationError, ConfigError, EngineError
from perception_node.model.accuracy import find_problem
from perception_node.model.bundle import (
    ACCURACY,
    CALIBRATION,
    INT8_ON_CPU,
    MODEL,
    add_files,
    load_bundle,
    write_bundle,
)
from tests.builders import color_network, make_bundle, to_onnx
from tests.gate_builders import (
    FP16,
    INT8,
    color_pictures,
    int8_bundle,
    int8_color_network,
    judge,
    mixed_pictures,
    multi_label_bundle,
)

SWAPPED = (1, 0, 2)  # takes red for green and green for red


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return color_pictures(tmp_path_factory.mktemp("pictures") / "colors")


@pytest.fixture
def bundle(tmp_path):
    return int8_bundle(tmp_path / "colors")


@pytest.fixture
def bad_bundle(tmp_path):
    return int8_bundle(tmp_path / "bad", model=int8_color_network(order=SWAPPED))


def without_latency(record):
    result = copy.deepcopy(record)
    for verdict in result["models"].values():
        del verdict["latency_ms"]
    return result


def test_a_good_model_passes_and_the_numbers_say_so(bundle, labelled):
    pictures, truth = labelled
    evaluation = judge(bundle, pictures, truth)
    assert evaluation.passed
    assert list(evaluation.record["models"]) == [MODEL, INT8, INT8_ON_CPU]
    for name, verdict in evaluation.record["models"].items():
        assert verdict["sha256"] == bundle.files[name]
        assert (verdict["passed"], verdict["why"]) == (True, [])
        assert (verdict["top_1"], verdict["top_5"], verdict["drop"]) == (1.0, 1.0, 0.0)
        assert verdict["agreement"] == 1.0
        assert 0.999 < verdict["cosine"] <= 1.0
        assert sum(one["images"] for one in verdict["reliability"]) == 60
        assert verdict["worst_classes"] == []
    assert evaluation.record["limits"] == {"max_drop": 1.0, "min_agreement": 0.95}
    assert evaluation.record["images"]["count"] == 60
    assert evaluation.flips == {INT8: [], INT8_ON_CPU: []}
    assert (evaluation.skipped, evaluation.warning) == ("", "")


def test_a_bad_model_fails_and_says_why(bad_bundle, labelled):
    pictures, truth = labelled
    evaluation = judge(bad_bundle, pictures, truth)
    assert not evaluation.passed
    models = evaluation.record["models"]
    assert models[MODEL]["passed"]
    for name in (INT8, INT8_ON_CPU):
        verdict = models[name]
        assert verdict["top_1"] == pytest.approx(1 / 3, abs=1e-5)
        assert verdict["drop"] == pytest.approx(200 / 3, abs=1e-3)
        assert verdict["why"] == [
            "top-1 is 66.67 points below float32, over 1",
            "agrees with float32 on 33.33% of the images, under 95.00%",
        ]
        assert [
            (one["label"], one["before"], one["after"]) for one in verdict["worst_classes"]
        ] == [
            ("red", 20, 0),
            ("green", 20, 0),
        ]


def test_limits_decide(bad_bundle, labelled):
    pictures, truth = labelled
    assert judge(bad_bundle, pictures, truth, max_drop=66.7, min_agreement=0.33).passed
    (why,) = judge(bad_bundle, pictures, truth, max_drop=66.7).record["models"][INT8]["why"]
    assert "agrees" in why
    (why,) = judge(bad_bundle, pictures, truth, min_agreement=0.3).record["models"][INT8]["why"]
    assert "top-1" in why


def test_without_labels_the_agreement_decides(bundle, bad_bundle, labelled):
    pictures, _ = labelled
    good, bad = judge(bundle, pictures), judge(bad_bundle, pictures)
    assert good.passed
    assert not good.record["images"]["labelled"]
    for verdict in good.record["models"].values():
        assert not {"top_1", "drop", "calibration_error", "reliability"} & verdict.keys()
    assert bad.record["models"][INT8]["why"] == [
        "agrees with float32 on 33.33% of the images, under 95.00%"
    ]


def test_few_images_prove_nothing(bundle, tmp_path):
    pictures, truth = color_pictures(tmp_path / "few", 49)
    evaluation = judge(bundle, pictures, truth)
    assert evaluation.record["models"][INT8]["why"] == ["49 image(s) cannot judge, 50 or more can"]
    assert not evaluation.passed


def test_the_worst_flips_are_kept_with_their_pictures(bad_bundle, labelled):
    pictures, truth = labelled
    flips = judge(bad_bundle, pictures, truth).flips[INT8]
    assert len(flips) == 12
    sureness = [flip.before.score + flip.after.score for flip in flips]
    assert sureness == sorted(sureness, reverse=True)
    for flip in flips:
        assert flip.truth == truth[flip.name] == flip.before.class_id
        assert {flip.before.label, flip.after.label} == {"red", "green"}
        assert flip.jpeg.startswith(b"\xff\xd8")


def test_the_same_images_and_files_give_the_same_record(bad_bundle, labelled):
    pictures, truth = labelled
    one, other = (judge(bad_bundle, pictures, truth) for _ in range(2))
    assert without_latency(one.record) == without_latency(other.record)
    assert one.flips == other.flips


def test_latency_is_that_of_models_that_run_on_the_cpu(bundle, labelled):
    models = judge(bundle, *labelled).record["models"]
    assert models[MODEL]["latency_ms"] > 0
    assert models[INT8_ON_CPU]["latency_ms"] > 0
    assert models[INT8]["latency_ms"] is None


def test_images_that_cannot_be_read_are_skipped_and_counted(bundle, tmp_path):
    pictures, truth = color_pictures(tmp_path / "some", 51)
    (pictures / "025_green.png").write_bytes(b"no picture")
    evaluation = judge(bundle, pictures, truth)
    assert evaluation.record["images"]["count"] == 50
    assert evaluation.record["images"]["skipped"] == 1
    assert evaluation.skipped.startswith("1 skipped (025_green.png: ")
    assert evaluation.passed


def test_no_usable_image_is_an_error(bundle, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"no picture")
    with pytest.raises(CalibrationError, match=r"bad: no image can be used: 1 skipped \(a\.png"):
        judge(bundle, tmp_path / "bad")


def test_a_model_that_gives_nan_is_named_with_the_image(tmp_path, labelled):
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["means", "means"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    model = to_onnx(helper.make_graph(nodes, "nan", [image], [logits]))
    bundle = int8_bundle(tmp_path / "nan", model=model)
    with pytest.raises(EngineError, match=r"model\.int8\.onnx: on 000_red\.png: 3 of 3 .*NaN"):
        judge(bundle, labelled[0])


def test_the_record_goes_into_the_bundle(bundle, labelled):
    evaluation = judge(bundle, *labelled)
    stored = store_evaluation(bundle, evaluation)
    assert json.loads(stored.read(ACCURACY)) == evaluation.record
    assert load_bundle(bundle.path).files == stored.files


def test_images_of_the_calibration_are_told_apart(bundle, labelled):
    pictures, truth = labelled
    images = open_images(bundle, images=pictures)
    list(images)
    calibration = json.dumps({"images": {"sha256": images.digest()}}).encode()
    again = add_files(bundle, {CALIBRATION: calibration})
    evaluation = judge(again, pictures, truth)
    assert "judge it on others" in evaluation.warning
    assert evaluation.record["images"]["calibrated_with"]
    other = add_files(bundle, {CALIBRATION: b'{"images": {"sha256": "00"}}'})
    assert judge(other, pictures, truth).warning == ""


def test_all_precisions_that_the_bundle_has_are_judged(bundle, tmp_path):
    assert models_of(bundle, None) == [MODEL, INT8, INT8_ON_CPU]
    assert models_of(bundle, ["int8"]) == [MODEL, INT8, INT8_ON_CPU]
    assert models_of(bundle, ["fp32"]) == [MODEL]
    with_half = add_files(bundle, {FP16: color_network()})
    assert models_of(with_half, None) == [MODEL, FP16, INT8, INT8_ON_CPU]
    assert models_of(load_bundle(make_bundle(tmp_path / "plain")), None) == [MODEL]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_that_the_bundle_lacks_is_an_error_that_says_how_to_get_it(
    color_bundle, precision
):
    with pytest.raises(ConfigError, match=r"has no model\..*perception calibrate"):
        models_of(load_bundle(color_bundle), [precision])


@pytest.mark.parametrize(
    "limits",
    [{"max_drop": -0.1}, {"max_drop": 101}, {"min_agreement": 1.1}, {"min_agreement": np.nan}],
)
def test_limits_that_mean_nothing_are_refused(limits):
    with pytest.raises(ConfigError, match=f"--{next(iter(limits)).replace('_', '-')} is"):
        Limits(**limits)


def test_engines_are_closed_whatever_happens(bundle, tmp_path, monkeypatch):
    closed = []

    class Engine(module.OnnxRuntimeEngine):
        def close(self):
            closed.append(self)
            super().close()

    monkeypatch.setattr(module, "OnnxRuntimeEngine", Engine)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"no picture")
    with pytest.raises(CalibrationError):
        evaluate(bundle, open_images(bundle, images=tmp_path / "bad"), [MODEL, INT8])
    assert len(closed) == 2


def test_a_report_of_progress_per_image(bundle, labelled):
    calls = []
    images = open_images(bundle, images=labelled[0])
    evaluate(bundle, images, [MODEL], report=lambda *done: calls.append(done))
    assert calls == [("evaluating", done, 60) for done in range(1, 61)]


# Multi-label


def test_a_multi_label_model_is_judged_by_all_its_labels(tmp_path):
    pictures, truth = mixed_pictures(tmp_path / "pictures")
    evaluation = judge(multi_label_bundle(tmp_path / "good"), pictures, truth)
    assert evaluation.passed
    for verdict in evaluation.record["models"].values():
        for field in ("mean_average_precision", "precision", "recall", "agreement"):
            assert verdict[field] == 1.0
        assert [(one["label"], one["images"]) for one in verdict["labels"]] == [
            ("red", 32),
            ("green", 32),
            ("blue", 32),
        ]


def test_a_bad_multi_label_model_fails_and_says_why(tmp_path):
    pictures, truth = mixed_pictures(tmp_path / "pictures")
    bundle = multi_label_bundle(tmp_path / "bad", SWAPPED)
    evaluation = judge(bundle, pictures, truth)
    verdict = evaluation.record["models"][INT8]
    # Where one of red and green is there, half of the images, it says the other.
    assert verdict["precision"] == verdict["recall"] == pytest.approx(64 / 96, abs=1e-5)
    assert [one["precision"] for one in verdict["labels"]] == [0.5, 0.5, 1.0]
    # Labels agree in full on 32 images, not at all on 16, and on blue alone on 16.
    assert verdict["agreement"] == pytest.approx((32 + 16 / 3) / 64, abs=1e-5)
    drop, agreement = verdict["why"]
    assert drop.startswith("mAP is ")
    assert agreement == "agrees with float32 on 58.33% of the images, under 95.00%"
    assert len(evaluation.flips[INT8]) > 0


def test_thresholds_of_the_bundle_decide(tmp_path):
    pictures, truth = mixed_pictures(tmp_path / "pictures")
    bundle = multi_label_bundle(tmp_path / "b", thresholds=(1.0, 0.5, 0.0))
    labels = judge(bundle, pictures, truth).record["models"][MODEL]["labels"]
    assert [one["recall"] for one in labels] == [0.0, 1.0, 1.0]
    assert [one["precision"] for one in labels] == [None, 1.0, 0.5]


def test_a_verdict_is_about_the_thresholds(tmp_path):
    pictures, truth = mixed_pictures(tmp_path / "pictures")
    bundle = multi_label_bundle(tmp_path / "b", thresholds=(0.5, 0.5, 0.5))
    bundle = store_evaluation(bundle, judge(bundle, pictures, truth))
    assert find_problem(bundle, INT8) == ""
    output = replace(bundle.manifest.output, thresholds=(0.5, 0.5, 0.4))
    write_bundle(bundle.path, replace(bundle.manifest, output=output))
    content = {ACCURACY: (bundle.path / ACCURACY).read_bytes()}
    changed = add_files(load_bundle(bundle.path), content)
    assert "about another model or other preprocessing" in find_problem(changed, INT8)


def test_without_labels_the_agreement_of_label_sets_decides(tmp_path):
    pictures, _ = mixed_pictures(tmp_path / "pictures")
    evaluation = judge(multi_label_bundle(tmp_path / "bad", SWAPPED), pictures)
    verdict = evaluation.record["models"][INT8]
    assert verdict["why"] == ["agrees with float32 on 58.33% of the images, under 95.00%"]
    assert "labels" not in verdict
