# SPDX-License-Identifier: Apache-2.0
"""The real command, with its confined child processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from perception_node.cli import main
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT, color_network, encode, perception, solid, to_onnx
from tests.import_builders import program, scores_network, script, small_module
from tests.variant_builders import COLOURS as VARIANT_LABELS
from tests.variant_builders import FLOAT, value, with_inputs

MODEL = ROOT / "models/efficientnet_lite0"
SCALE = ("--scale", "0.00392157")
COLOURS = ("--mean", "0", "--std", "1", *SCALE, "--color", "RGB", "--resize", "stretch")


@pytest.fixture
def labels(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("\ufeffred\r\ngreen\r\nblue\r\n", encoding="utf-8")
    return file


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "colors.onnx"
    file.write_bytes(color_network(batch="n"))
    return file


def test_an_onnx_model_becomes_a_bundle_that_classifies(tmp_path, model, labels):
    result = perception("import", model, "-o", tmp_path / "new", "--labels", labels, *COLOURS)
    assert (result.returncode, result.stderr) == (0, "")
    title = f"{model} (ONNX) -> {tmp_path / 'new'}, LicenseRef-unknown"
    assert result.stdout.splitlines()[0] == title
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert "8x8 (height x width)" in lines["size"]
    assert lines["size"].endswith("(its input)")
    assert lines["color"].endswith("(given)")
    assert lines["scale"].endswith("(given)")
    assert "logits, 3 classes" in lines["output"]
    assert "on 8 images" in lines["checked"]
    (tmp_path / "green.jpg").write_bytes(encode(solid((0, 255, 0))))
    found = perception("classify", tmp_path / "green.jpg", "--model", tmp_path / "new", "--json")
    assert json.loads(found.stdout)["results"][0]["label"] == "green"


def test_what_is_changed_of_the_graph_is_printed(tmp_path):
    file, names = tmp_path / "eight.onnx", tmp_path / "names.txt"
    file.write_bytes(with_inputs(value("mystery", FLOAT, [1])))
    names.write_text("\n".join(VARIANT_LABELS))
    options = ("-o", tmp_path / "new", "--labels", names, *COLOURS)
    refused = perception("import", file, *options)
    assert "NAME=VALUE: the number that each takes: mystery (float32)" in refused.stderr
    assert refused.stderr.rstrip().endswith("--fix-input NAME=VALUE")
    result = perception("import", file, *options, "--fix-input", "mystery=1")
    assert (result.returncode, result.stderr) == (0, "")
    assert "  changed       input mystery fixed at 1 (given)\n" in result.stdout


@pytest.mark.parametrize("text", ["keep", "keep=", "keep=x", "=1", "keep=inf"])
def test_a_value_of_an_input_is_a_name_and_a_number(capsys, text):
    assert main(["import", "x.onnx", "-o", "y", "--fix-input", text]) == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err


def test_a_multi_label_model_can_be_said_with_its_thresholds(tmp_path, model, labels):
    said = ("--output", "sigmoid-logits", "--thresholds", "0.5,0.6,0.7")
    result = perception(
        "import", model, "-o", tmp_path / "new", "--labels", labels, *COLOURS, *said
    )
    assert (result.returncode, result.stderr) == (0, "")
    output = load_bundle(tmp_path / "new").manifest.output
    assert (output.kind, output.thresholds) == ("sigmoid-logits", (0.5, 0.6, 0.7))


def test_a_model_with_one_score_has_two_labels(tmp_path):
    weights = "float[3,1] w = {4, -2, -2}"
    graph = parser.parse_graph(
        f"""g (float[1,3,8,8] image) => (float[1,1] p) <{weights}> {{
        a = GlobalAveragePool(image) b = Flatten(a) z = MatMul(b, w) p = Sigmoid(z) }}"""
    )
    (tmp_path / "model.onnx").write_bytes(to_onnx(graph))
    bundle = tmp_path / "new"
    result = perception(
        "import", tmp_path / "model.onnx", "-o", bundle, "--labels", "no,yes", *COLOURS
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "probabilities, 2 classes" in result.stdout
    (tmp_path / "red.png").write_bytes(encode(solid((255, 0, 0)), ".png"))
    found = perception("classify", tmp_path / "red.png", "--model", bundle, "--json")
    yes, no = json.loads(found.stdout)["results"]
    assert (yes["label"], no["label"]) == ("yes", "no")
    assert yes["score"] == pytest.approx(0.982014, abs=1e-5)  # the sigmoid of 4


@pytest.mark.parametrize("text", ["0.5,x", "1.5", "-0.1", ""])
def test_thresholds_are_numbers_from_0_to_1(capsys, text):
    assert main(["import", "model.onnx", "-o", "new", f"--thresholds={text}"]) == 2
    assert "is not numbers from 0 to 1, such as 0.5,0.3" in capsys.readouterr().err


def test_torchscript_needs_no_flags(tmp_path):
    names = [f"class {n}" for n in range(3)]
    (tmp_path / "model.zip").write_bytes(script(small_module(names)))
    result = perception("import", tmp_path / "model.zip", "-o", tmp_path / "new")
    assert (result.returncode, result.stderr) == (0, "")
    manifest = load_bundle(tmp_path / "new").manifest
    settings = manifest.preprocessing
    assert load_bundle(tmp_path / "new").labels == tuple(names)
    assert (manifest.input.height, manifest.input.width) == (224, 224)
    assert (settings.color, settings.resize, settings.scale) == ("RGB", "stretch", 1 / 255)
    assert (settings.mean, settings.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert manifest.output.kind == "logits"
    assert manifest.provenance["format"] == "TorchScript"


def test_the_summary_shows_each_setting_with_its_source(tmp_path, capsys, model):
    (tmp_path / "synsets.txt").write_text("n01440764 red\nn01443537 green\nn01443538 red\n")
    flags = ("--preset", "caffe", "--resize", "pad-square", "--fill", "1,2,3")
    arguments = ["import", model, "-o", tmp_path / "new", "--labels", tmp_path / "synsets.txt"]
    assert main([*map(str, arguments), *flags]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "mean B,G,R = 103.939, 116.779, 123.68 (preset caffe)" in lines
    assert "std B,G,R = 1, 1, 1 (preset caffe)" in lines
    assert "resize pad-square (given)" in lines
    assert "fill B,G,R = 1, 2, 3 (given)" in lines
    assert "labels red, green, red; 1 of 3 repeat another (given)" in lines
    assert load_bundle(tmp_path / "new").manifest.preprocessing.fill == (1, 2, 3)
    flags = (*flags[:2], "--resize", "letterbox", "--force")
    assert main([*map(str, arguments), *flags]) == 0
    assert " ".join(capsys.readouterr().out.split()).find("fill 0 (default)") > 0


def test_what_is_missing_is_one_line_with_the_command_to_complete(tmp_path, capsys, model):
    words = ["import", str(model), "-o", str(tmp_path / "a b"), "--labels", "r,g,b", "--color=BGR"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    typed = f"perception import {model} -o '{tmp_path}/a b' --labels r,g,b --color=BGR"
    assert line.endswith(f"complete and run: {typed} --resize HOW --mean MEAN --std STD")
    command = shlex.split(line.partition("complete and run: perception ")[2])
    answers = {"HOW": "stretch:9", "MEAN": "103.9,116.8,123.7", "STD": "1"}
    assert main([answers.get(word, word) for word in command]) == 0
    made = load_bundle(tmp_path / "a b").manifest.preprocessing
    assert (made.resize, made.shorter_side, made.mean[0]) == ("stretch-crop", 9, 103.9)


@pytest.mark.slow
def test_a_program_is_exported_in_confinement(tmp_path, labels):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    (tmp_path / "m.pt2").write_bytes(program(small_module(), (1, 3, 4, 6)))
    result = perception(
        "import", tmp_path / "m.pt2", "-o", tmp_path / "new", "--labels", labels, *COLOURS
    )
    assert (result.returncode, result.stderr) == (0, "")
    manifest = load_bundle(tmp_path / "new").manifest
    assert (manifest.input.height, manifest.input.width) == (4, 6)
    assert manifest.provenance["format"] == "torch.export"


@pytest.mark.slow
def test_keras_runs_in_confinement(tmp_path, labels):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    if find_spec("keras") is None:
        pytest.skip("keras is not installed")
    make = (
        "import sys, keras; keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Rescaling(2.0),"
        "keras.layers.GlobalAveragePooling2D()]).save(sys.argv[1])"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    model = tmp_path / "m.keras"
    subprocess.run([sys.executable, "-c", make, model], env=environment, check=True)
    result = perception(
        "import", model, "-o", tmp_path / "new", "--labels", labels, *COLOURS, "--output", "logits"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert load_bundle(tmp_path / "new").manifest.provenance["format"] == "Keras"


def browser_model(content: bytes) -> bytes:
    """Return the default model as a web page runs it: RGBA pixels in, probabilities out."""
    model = onnx.load_model_from_string(content)
    graph = model.graph
    constants = {
        "page_0": np.array([0]),
        "page_3": np.array([3]),
        "page_2": np.array([2]),
        "page_mean": np.float32(127.0),
        "page_std": np.float32(128.0),
        "page_shape": np.array([1, 3, 224, 224]),
    }
    steps = [
        helper.make_node("Slice", ["canvas", "page_0", "page_3", "page_2"], ["page_rgb"]),
        helper.make_node("Sub", ["page_rgb", "page_mean"], ["centred"]),
        helper.make_node("Div", ["centred", "page_std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Reshape", ["planes", "page_shape"], [graph.input[0].name]),
    ]
    softmax = helper.make_node("Softmax", [graph.output[0].name], ["probabilities"], axis=1)
    body = [*steps, *graph.node, softmax]
    del graph.node[:], graph.input[:]
    graph.node.extend(body)
    graph.input.append(helper.make_tensor_value_info("canvas", TensorProto.FLOAT, [224, 224, 4]))
    graph.output[0].name = "probabilities"
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    return model.SerializeToString()


def test_the_default_model_with_its_preprocessing_inside_gives_its_golden_results(tmp_path):
    content = (MODEL / "model.onnx").read_bytes()
    (tmp_path / "browser.onnx").write_bytes(browser_model(content))
    result = perception(
        *("import", tmp_path / "browser.onnx", "-o", tmp_path / "new"),
        *("--labels", MODEL / "labels.txt"),
        *("--resize", "shorter-side:256", "--interpolation", "bicubic"),  # not what a page does
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert lines["mean"].endswith("(its input, RGBA)")
    assert "probabilities, 1000 classes" in lines["output"]
    bag = ROOT / "samples/photos"
    golden = ("--golden", bag / "golden.jsonl", "--tolerance", "1e-5")
    assert perception("replay", bag, "--model", tmp_path / "new", *golden).returncode == 0


# Wrong input


@pytest.mark.parametrize(
    "flags",
    [
        ("--mean", "1,2"),
        ("--std", "a"),
        ("--mean", "nan"),
        ("--scale", "0"),
        ("--size", "wide"),
        ("--color", "GRAY"),
        ("--resize", "shorter-side"),
        ("--resize", "stretch:x"),
        ("--resize", "letterbox:3"),
        ("--resize", "crop"),
        ("--resize", "pad-square:"),
        ("--crop-pct", "0"),
        ("--crop-pct", "87.5"),
        ("--fill", "256"),
        ("--fill", "1,2"),
        ("--fill", "mirror"),
        ("--interpolation", "lanczos"),
        ("--preset", "resnet"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(capsys, model, tmp_path, flags):
    assert main(["import", str(model), "-o", str(tmp_path / "new"), *flags]) == 2
    problem = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flags[0]}" in problem
    assert f"'{flags[1]}'" in problem
    assert "invalid _" not in problem, "names a function of ours instead of what is wanted"


def test_other_wrong_input_is_one_line(capsys, model, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    (tmp_path / "taken").mkdir()
    for arguments, words in [
        ((tmp_path / "none", "-o", tmp_path / "new"), "cannot be read: No such file"),
        ((model, "-o", tmp_path / "taken"), "is there already; choose another name"),
        ((model, "-o", tmp_path / "taken", "--force"), "is no bundle and will not be replaced"),
        ((model, "-o", tmp_path / "no/where"), "does not exist; make it first"),
        ((model, "-o", tmp_path / "new", "--labels", tmp_path / "none"), "cannot be read"),
        ((model, "-o", tmp_path / "new", "--labels", tmp_path / "latin"), "not UTF-8 text"),
        ((model, "-o", tmp_path / "new", "--trust-model", "12"), "not the one of --trust-model"),
    ]:
        assert main(["import", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
        assert captured.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_interrupted_import_leaves_nothing(tmp_path):
    """Ctrl-C ends the child as well, and the scratch folder goes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    model = tmp_path / "model.onnx"
    model.write_bytes(scores_network())
    process = subprocess.Popen(
        [sys.executable, "-m", "perception_node.cli", "import", model, "-o", tmp_path / "new"],
        env={**os.environ, "TMPDIR": str(scratch)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 60
    while not list(scratch.glob("*/answer")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (None, b"")
    assert process.returncode == 130
    assert not list(scratch.iterdir())
    assert not (tmp_path / "new").exists()
