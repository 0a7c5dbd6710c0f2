# SPDX-License-Identifier: Apache-2.0
"""A model that came as int8, on its way from the file to a label."""

from __future__ import annotations

import json

import pytest

from perception_node.cli import main
from perception_node.model.bundle import load_bundle
from tests.builders import LABELS, make_bundle
from tests.calibration_builders import MANIFEST_OF_IT, small_bundle, small_network, write_pictures
from tests.int8_builders import quantized_network, small_transformer

SAID = ["--mean", "0.5", "--std", "0.25", "--color", "RGB", "--resize", "stretch"]


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def photos(tmp_path):
    return write_pictures(tmp_path / "photos", 60)


@pytest.fixture
def parent(tmp_path):
    return small_bundle(tmp_path / "parent")


@pytest.fixture
def bring(run, tmp_path):
    """Import the small network, quantised as a case says."""

    def call(case, *arguments):
        file = tmp_path / "model.onnx"
        file.write_bytes(quantized_network(case, tmp_path))
        (tmp_path / "labels.txt").write_text("\n".join(LABELS))
        said = arguments or [*SAID, "--labels", tmp_path / "labels.txt"]
        return tmp_path / "bundle", run("import", file, "-o", tmp_path / "bundle", *said)

    return call


def test_from_import_to_classify_it_is_int8(run, bring, photos):
    bundle, (code, out, _) = bring("asymmetric")
    assert code == 0
    assert "precision     int8: it came quantised, Q/DQ\n" in out
    assert "int8          100% of the multiplications\n" in out
    assert "--requantize" in out

    manifest = json.loads(run("inspect", bundle, "--json")[1])
    assert manifest["quantization"]["form"] == "Q/DQ"
    assert manifest["quantization"]["int8_share"] == 1.0

    classify = ("classify", photos / "000.jpg", "--model", bundle, "--engine", "onnxruntime")
    code, _, err = run(*classify)
    assert code != 0
    assert "its accuracy was never measured; run: perception evaluate" in err
    assert run("evaluate", bundle, "--images", photos)[0] == 0
    code, out, _ = run(*classify, "--json")
    assert code == 0
    assert json.loads(out)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_is_built_as_nothing_else(run, bring, precision):
    bundle, _ = bring("symmetric")
    code, _, err = run("build", bundle, "--precision", precision)
    assert code != 0
    assert f"came quantised (Q/DQ), so it is int8, not {precision}; build it with" in err
    assert err.count("\n") == 1


def test_the_default_precision_is_its_own(run, bring):
    bundle, _ = bring("symmetric")
    code, _, err = run("build", bundle)
    assert code != 0
    assert "model.int8.onnx: its accuracy was never measured" in err


def test_requantising_is_the_way_to_tensorrt(run, bring, photos):
    bundle, _ = bring("integer operators")
    code, _, err = run("build", bundle, "--precision", "int8")
    assert code != 0
    assert f"perception calibrate {bundle} --images DIR --requantize" in err
    calibrate = ("calibrate", bundle, "--images", photos, "--samples", "12", "--method", "minmax")
    code, _, err = run(*calibrate)
    assert code != 0
    assert "its model came as int8; calibrate the bundle of its float model" in err
    assert err.count("\n") == 1
    assert run(*calibrate, "--requantize")[0] == 0
    assert "model.int8.onnx" in load_bundle(bundle).files
    assert "was quantised again" in run("inspect", bundle)[1]
    assert "its accuracy was never measured" in run("build", bundle, "--precision", "int8")[2]


def test_its_float_parent_says_the_rest_and_is_what_it_is_compared_with(
    run, bring, parent, photos
):
    bundle, (code, out, _) = bring("symmetric, per channel", "--float-parent", parent)
    assert code == 0
    assert "compared with its float parent" in out
    theirs, ours = load_bundle(parent), load_bundle(bundle)
    assert ours.manifest.preprocessing == theirs.manifest.preprocessing
    assert ours.labels == theirs.labels
    assert ours.manifest.provenance["float_parent"] == theirs.files["model.onnx"]
    assert ours.read() != ours.read("model.int8.cpu.onnx")
    code, out, _ = run("evaluate", bundle, "--images", photos, "--json")
    verdicts = json.loads(out)["models"]
    assert code == 0
    assert verdicts["model.int8.onnx"]["agreement"] > 0.9


def test_a_float_model_has_no_float_parent_and_is_not_requantised(run, parent, tmp_path, photos):
    (tmp_path / "float.onnx").write_bytes(small_network())
    arguments = ("import", tmp_path / "float.onnx", "-o", tmp_path / "new")
    code, _, err = run(*arguments, "--float-parent", parent)
    assert code != 0
    assert "it is a float model; leave out --float-parent" in err
    code, _, err = run("calibrate", parent, "--images", photos, "--requantize")
    assert code != 0
    assert "its model is a float one; leave out --requantize" in err


def test_a_bundle_from_before_this_was_looked_for_is_a_clear_refusal(run, tmp_path, photos):
    content = quantized_network("asymmetric", tmp_path)
    bundle = make_bundle(tmp_path / "old", content, MANIFEST_OF_IT)
    code, _, err = run("calibrate", bundle, "--images", photos)
    assert code != 0
    assert "the model is quantised already; import it again as int8: perception import" in err
    assert err.count("\n") == 1


def test_a_transformer_is_calibrated_for_the_most_part(run, tmp_path, photos):
    bundle = make_bundle(tmp_path / "vit", small_transformer(outlier=50.0), MANIFEST_OF_IT)
    code, out, err = run("calibrate", bundle, "--images", photos, "--method", "minmax")
    assert (code, err) == (0, "")
    assert "model.int8.cpu.onnx: int8 does 93% of the multiplications\n" in out
    assert "CPU, one thread: float32" in out
    assert "93% of the multiplications" in run("inspect", bundle)[1]
    assert run("evaluate", bundle, "--images", photos, "--min-agreement", "0.97")[0] == 0


def test_little_int8_is_a_warning(run, tmp_path, photos):
    """A transformer of a narrow layer has most of its work in the attention, which is float."""
    content = small_transformer(depth=1, width=4)
    bundle = make_bundle(tmp_path / "vit", content, MANIFEST_OF_IT)
    arguments = ("--keep-float", "6", "--method", "minmax", "--samples", "12")
    code, _, err = run("calibrate", bundle, "--images", photos, *arguments)
    assert code == 0
    assert err.count("warning: ") == 2
    assert "of the multiplications only, so it hardly pays; fp16 may be as fast" in err
