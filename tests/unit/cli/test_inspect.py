# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys

import pytest

from perception_node.cli import main, plan_report
from tests.builders import ROOT, make_bundle
from tests.gate_builders import gate, int8_bundle
from tests.variant_builders import variant

V86 = "tensorrt-8.6"


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main(["inspect", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def plan(tmp_path, color_bundle, capsys):
    """A plan that was really built, and its manifest."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    arguments = ["--backend", "tensorrt-rtx", "--store", str(tmp_path / "plans"), "--json"]
    assert main(["build", str(color_bundle), *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    return record["plan"], record["manifest"]


def test_it_says_all_about_a_bundle(run, color_bundle):
    code, shown, _ = run(color_bundle)
    assert code == 0
    for text in (
        "colors",
        "Apache-2.0",
        "image, float32 (1, 3, 8, 8)",
        "logits, float32 (1, 3)",
        "stretch",
        "bilinear",
        "red, green, blue",
        "model.onnx",
        "by a test",
    ):
        assert text in shown


def test_json_holds_the_same_and_all_labels(run):
    code, shown, _ = run("efficientnet_lite0", "--json")
    assert code == 0
    record = json.loads(shown)
    assert len(record["labels"]) == 1000
    assert record["preprocessing"]["shorter_side"] == 256
    assert {file["name"] for file in record["files"]} == {"model.onnx", "labels.txt"}


@pytest.mark.parametrize("manifest", [False, True])
def test_a_bundle_can_be_named_by_its_folder_or_its_manifest(run, color_bundle, manifest):
    path = color_bundle / "bundle.json" if manifest else color_bundle
    assert run(path)[0] == 0


def test_it_says_whether_int8_may_run(run, tmp_path):
    bundle = int8_bundle(tmp_path / "colors")
    assert "model.int8.cpu.onnx: its accuracy was never measured" in run(bundle.path)[1]
    gate(bundle, tmp_path)
    assert "model.int8.cpu.onnx: passed perception evaluate" in run(bundle.path)[1]
    assert json.loads(run(bundle.path, "--json")[1])["gate"]["model.int8.cpu.onnx"] == ""


def test_a_damaged_bundle_is_an_error(run, tmp_path):
    folder = make_bundle(tmp_path / "colors")
    (folder / "model.onnx").write_bytes(b"something else")
    code, shown, problems = run(folder)
    assert (code, shown) == (2, "")
    assert "sha256" in problems


@pytest.mark.parametrize("index", [0, 1])
def test_it_says_all_about_a_plan_or_its_manifest(run, plan, index):
    code, shown, _ = run(plan[index])
    assert code == 0
    for text in (plan[0], "fp16", "tensorrt-rtx", "1x3x8x8", "built without a GPU", "Reduce"):
        assert text in shown
    record = json.loads(run(plan[index], "--json")[1])
    assert record["fingerprint"]["input_shape"] == [1, 3, 8, 8]
    assert record["details"]["acceptance"]["done"] is False


def test_a_plan_of_another_machine_names_what_differs(run, plan, monkeypatch):
    differences = ["gpu: built for Orin, here Thor", "tensorrt: built for 10.3.0, here 10.13.3"]
    monkeypatch.setattr(plan_report, "differences_to_this_machine", lambda _: differences)
    shown = run(plan[0])[1]
    assert "runs here" in shown
    assert "no: gpu: built for Orin, here Thor; tensorrt: built for 10.3.0" in shown


def test_a_damaged_plan_is_an_error(run, plan, tmp_path):
    (file,) = (tmp_path / "plans").glob("*.plan")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, shown, problems = run(plan[0])
    assert (code, shown) == (2, "")
    assert problems.count("\n") == 1
    assert "sha256" in problems


@pytest.mark.parametrize("name", ["nothing.plan", "nothing.json", "no_such_model", "/nowhere/at"])
def test_what_is_not_there_is_an_error(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, shown, problems = run(name)
    assert (code, shown) == (2, "")
    assert problems.count("\n") == 1


def test_it_says_whether_a_version_of_tensorrt_can_read_a_bundle(run, color_bundle):
    assert "model.onnx: can be read, by NVIDIA's table" in run(color_bundle, "--for", V86)[1]
    record = json.loads(run(color_bundle, "--for", V86, "--json")[1])
    assert record["tensorrt"] == {"model.onnx": []}
    assert "tensorrt" not in json.loads(run(color_bundle, "--json")[1])


def test_it_says_what_is_in_an_onnx_file(run, tmp_path):
    file = tmp_path / "any.onnx"
    file.write_bytes(variant(opset=20))
    code, shown, _ = run(file)
    assert code == 0
    assert "GlobalAveragePool (1), Flatten (1), Gemm (1)" in shown
    shown = run(file, "--for", V86)[1]
    assert "any.onnx: opset 20 is not among 9 to 17; export the model with opset 17" in shown
    (problem,) = json.loads(run(file, "--for", V86, "--json")[1])["tensorrt"]["any.onnx"]
    assert problem.startswith("opset 20")


@pytest.mark.parametrize("content", [b"no model", b"\xff" * 40, b""])
def test_an_onnx_file_that_is_none_is_an_error(run, tmp_path, content):
    (tmp_path / "any.onnx").write_bytes(content)
    code, shown, problems = run(tmp_path / "any.onnx")
    assert (code, shown, problems.count("\n")) == (2, "", 1)


def test_versions_of_tensorrt_that_are_not_known_are_listed(run, color_bundle):
    code, shown, problems = run(color_bundle, "--for", "tensorrt-9")
    assert (code, shown, problems.count("\n")) == (2, "", 1)
    assert "choose from 'tensorrt-8.6', 'tensorrt-10.0'" in problems


def test_another_file_is_an_error_that_says_what_is_wanted(run, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"x")
    code, shown, problems = run(tmp_path / "x.bin")
    assert (code, shown) == (2, "")
    assert "neither a bundle's folder nor a .plan" in problems


@pytest.mark.parametrize("verb", ["build", "inspect"])
def test_plans_need_neither_ros_nor_tensorrt_to_be_looked_at(verb):
    script = (
        f"import sys; import perception_node.cli.{verb}\n"
        "print(sorted({'rclpy', 'sensor_msgs', 'tensorrt', 'onnx', 'pycuda'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_an_acceptance_is_told_in_words():
    text = plan_report.describe_acceptance(
        {
            "done": True,
            "difference": 0.0034,
            "tolerance": 0.02,
            "same_label": 8,
            "images": 8,
            "infer_ms": 0.731,
        }
    )
    assert "0.0034 of the output's range (allowed 0.02)" in text
    assert "8 of 8 images, 0.73 ms" in text
