# SPDX-License-Identifier: Apache-2.0
"""Every kind of ONNX model becomes a bundle that gives the original's answers.

The steps run in this process here; ``tests/faults`` and ``tests/unit/cli`` run them confined.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.importing import opening
from perception_node.engines.importing.files.apart import take_apart
from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.settings import Wishes
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.inspection import precision_table
from perception_node.errors import ConfigError, ConversionError, EnvironmentLacks, LabelMismatch
from perception_node.vision.frame import Frame
from tests.builders import color_network, to_onnx
from tests.import_builders import (
    CLASSES,
    HEIGHT,
    NAMES,
    SAID,
    SCRIPT_SAID,
    WIDTH,
    scores_network,
    scores_weights,
    script,
    small_module,
    torch,
    trace,
)

pytestmark = pytest.mark.usefixtures("in_this_process")
LABELS = Wishes(labels=NAMES)
PLACED = Wishes(labels=NAMES, color="RGB", resize="stretch")


def run_bundle(bundle, image):
    """Return the row of scores that a bundle's model gives for (1, 3, H, W) float32."""
    session = ort.InferenceSession(bundle.read(), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    assert (value.name, value.type, value.shape) == (
        bundle.manifest.input.name,
        "tensor(float)",
        [1, 3, HEIGHT, WIDTH],
    )
    (output,) = session.run([bundle.manifest.output.name], {value.name: image})
    assert output.shape == (1, CLASSES)
    assert output.dtype == np.float32
    return output[0]


MODELS = {
    "static": ({}, SAID),
    "open batch": ({"batch": "n"}, SAID),
    "NHWC": ({"layout": "NHWC"}, SAID),
    "NHWC, open batch": ({"layout": "NHWC", "batch": "n"}, SAID),
    "CHW": ({"layout": "CHW"}, SAID),
    "HWC": ({"layout": "HWC"}, SAID),
    "float16": ({"element": "float16"}, SAID),
    "uint8 NCHW": ({"element": "uint8"}, PLACED),
    "uint8 NHWC": ({"element": "uint8", "layout": "NHWC"}, PLACED),
    "uint8 HWC, moved": (
        {"element": "uint8", "layout": "HWC", "moved_before_cast": True},
        PLACED,
    ),
    "RGBA HWC": ({"layout": "HWRGBA"}, LABELS),
    "RGBA NHWC uint8": ({"layout": "NHWRGBA", "element": "uint8", "batch": "n"}, LABELS),
    "RGBA NCHW": ({"layout": "NRGBAHW"}, LABELS),
    "one row": ({"ending": (CLASSES,)}, SAID),
    "column": ({"ending": (CLASSES, 1)}, SAID),
    "four axes": ({"ending": (1, CLASSES, 1, 1), "batch": "n"}, SAID),
}


@pytest.mark.parametrize(("shape", "wishes"), MODELS.values(), ids=MODELS)
def test_every_form_of_input_and_output_gives_the_same_scores(convert, shape, wishes):
    imported, bundle = convert(scores_network(**shape), wishes)
    assert imported.difference <= 1e-5
    assert imported.images == 5
    assert bundle.labels == NAMES
    assert bundle.manifest.output.kind == "logits"
    image = np.random.default_rng(1).integers(0, 256, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    found = run_bundle(bundle, image)
    assert found == pytest.approx(image.ravel() @ scores_weights(), rel=1e-3, abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("shape", "wishes"), MODELS.values(), ids=MODELS)
def test_nvidias_parser_takes_every_form_once_rewritten(convert, shape, wishes, precision):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    _, bundle = convert(scores_network(**shape), wishes)
    model = bundle.read() if precision == "fp32" else to_half_precision(bundle.read())
    built = build_plan(load_tensorrt("tensorrt-rtx"), model, precision, BuildOptions())
    assert built.is_strongly_typed
    if (precision, shape.get("element")) != ("fp32", "float16"):
        assert precision_table(built.layers)["MatrixMultiply"] == {precision: 1}


def test_a_softmax_at_the_end_gives_probabilities(convert):
    imported, bundle = convert(scores_network(softmax=True))
    assert bundle.manifest.output.kind == "probabilities"
    assert imported.choices["output"].source == "its last operator, Softmax"


def test_colours_are_recognised_through_the_whole_pipeline(convert):
    wishes = Wishes(
        color="BGR",
        resize="stretch",
        scale=1 / 255,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        labels=("b", "g", "r"),
    )
    imported, bundle = convert(color_network(batch="n", softmax=True), wishes, name="colours")
    assert imported.manifest.name == "colours"
    blue = np.zeros((40, 30, 3), np.uint8)
    blue[..., 0] = 255
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        (best,) = pipeline.run(Frame.from_bgr(blue), top_k=1, threshold=0.0).hypotheses
    assert best.label == "b"


def test_what_is_missing_is_one_error_with_all_flags(convert):
    with pytest.raises(ConversionError) as caught:
        convert(scores_network(), Wishes())
    message = str(caught.value)
    for flag in ("--labels FILE", "--mean", "--std", "--resize", "--color"):
        assert flag in message
    assert "--size" not in message
    assert "\n" not in message


def test_only_what_is_missing_is_asked_for(convert):
    with pytest.raises(ConversionError, match=r"BUNDLE --color RGB_OR_BGR --resize HOW$"):
        convert(scores_network(element="uint8"), LABELS)
    with pytest.raises(ConversionError, match=r"not say: labels .*BUNDLE --labels FILE$"):
        convert(scores_network("HWRGBA"), Wishes())


@pytest.mark.parametrize(
    "metadata",
    [{"labels": json.dumps(NAMES)}, {"names": repr(dict(enumerate(NAMES))), "stride": "1"}],
)
def test_labels_come_from_the_metadata(convert, metadata):
    imported, bundle = convert(scores_network(metadata=metadata), replace(SAID, labels=None))
    assert bundle.labels == NAMES
    assert imported.choices["labels"].source == "its metadata"
    assert not onnx.load_model_from_string(bundle.read()).metadata_props


@pytest.mark.parametrize("value", ["{", "3", "[1]", "[" * 9999, "{1: 'a'}", "x()"])
@pytest.mark.parametrize("key", ["labels", "names"])
def test_metadata_that_is_no_list_of_names_is_passed_over(convert, key, value):
    with pytest.raises(ConversionError, match="--labels FILE"):
        convert(scores_network(metadata={key: value}), replace(SAID, labels=None))


def large_network(**model: Any) -> onnx.ModelProto:
    """Return a model whose weights are large enough to be kept apart: logits of random colours."""
    weights = np.random.default_rng(2).normal(size=(3, 600_000)).astype(np.float32)
    back = np.random.default_rng(3).normal(0, 1 / 600_000, (600_000, CLASSES)).astype(np.float32)
    steps = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["wide"]),
        helper.make_node("MatMul", ["wide", "b"], ["scores"]),
    ]
    graph = helper.make_graph(
        steps,
        "large",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(back, "b")],
    )
    return helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], **model
    )


def test_weights_beside_the_model_become_part_of_the_bundle(convert, tmp_path):
    """As PyTorch exports: ``model.onnx`` and ``model.onnx.data``."""
    whole = large_network().SerializeToString()
    imported, bundle = convert(whole)
    assert "external_data" not in imported.manifest.provenance
    onnx.save(
        large_network(),
        tmp_path / "s.onnx",
        save_as_external_data=True,
        location="scores.onnx.data",
    )
    split, second = convert((tmp_path / "s.onnx").read_bytes(), force=True)
    assert split.difference <= 1e-5
    assert second.read() == bundle.read() == whole
    data = (tmp_path / "scores.onnx.data").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert split.manifest.provenance["external_data"] == {"scores.onnx.data": digest}
    (tmp_path / "scores.onnx.data").unlink()
    with pytest.raises(ConversionError, match=r"lie in scores\.onnx\.data, not found in"):
        convert((tmp_path / "s.onnx").read_bytes(), force=True)


def test_what_a_child_makes_needs_no_files_of_the_user(tmp_path):
    model = large_network()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="data")
    content = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(ConversionError, match="weights lie in another file"):
        take_apart(tmp_path / "m.onnx", content, tmp_path, is_whole=True)


def test_a_folder_for_temporary_files_that_cannot_be_written_is_named(convert, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/1")
    with pytest.raises(
        ConfigError, match=r"no folder for temporary files can be made: .*set TMPDIR"
    ):
        convert(scores_network())


def test_an_old_file_whose_weights_are_inputs_too_is_taken(convert):
    """ONNX before 1.4, as much of the ONNX model zoo is."""

    def make_old(model):
        model.ir_version = 3
        model.graph.input.extend(
            helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            for weight in model.graph.initializer
        )

    imported, bundle = convert(with_graph(make_old))
    assert imported.difference <= 1e-5
    image = np.random.default_rng(1).integers(0, 256, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    assert run_bundle(bundle, image).shape == (CLASSES,)


# TorchScript


def test_torchscript_with_labels_says_everything(convert):
    imported, bundle = convert(script(small_module()), Wishes())
    assert imported.format == "TorchScript"
    assert bundle.labels == ("red", "green", "blue")
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (224, 224)
    assert bundle.manifest.preprocessing.scale == 1 / 255
    assert imported.choices["size"].source == "convention for TorchScript models with labels"
    assert bundle.manifest.provenance["torch"].startswith("2.")
    assert imported.choices["labels"].source == "its attribute labels"
    assert 0.0 <= imported.difference <= 1e-5


ALL_FLAGS = "--size HxW --color RGB_OR_BGR --resize HOW --mean MEAN --std STD"


def test_torchscript_without_labels_asks_for_everything(convert):
    with pytest.raises(ConversionError, match=f" {ALL_FLAGS} --labels FILE$"):
        convert(script(small_module(None)), Wishes())
    _, bundle = convert(script(small_module(None)), replace(SCRIPT_SAID, labels=("r", "g", "b")))
    assert bundle.labels == ("r", "g", "b")


def test_torchscript_of_which_something_is_said_is_asked_for_the_rest(convert):
    with pytest.raises(ConversionError, match=r"--size HxW --resize HOW --mean MEAN --std STD$"):
        convert(script(small_module()), Wishes(color="BGR"))
    wishes = replace(SCRIPT_SAID, mean=(127, 127, 127), std=(128, 128, 128), color="BGR")
    _, bundle = convert(script(small_module()), replace(wishes, scale=None))
    settings = bundle.manifest.preprocessing
    assert (settings.mean, settings.std) == ((127, 127, 127), (128, 128, 128))
    assert (settings.scale, settings.color) == (1.0, "BGR")


@pytest.mark.parametrize("shape", [(1, 3, 26, 30), (1, 3, 224, 224)])
def test_a_traced_module_is_asked_for_all_but_its_size(convert, shape):
    content = trace(small_module(), torch().zeros(*shape))
    with pytest.raises(ConversionError, match=ALL_FLAGS.replace("--size HxW ", "")):
        convert(content, Wishes())
    wishes = replace(SCRIPT_SAID, size=None, labels=("r", "g", "b"))
    imported, bundle = convert(content, wishes)
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == shape[2:]
    assert imported.choices["size"].source == "its traced example"


def test_torchscript_needs_pytorch(convert, monkeypatch):
    content = script(small_module())
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(EnvironmentLacks, match=r"needs torch; run: pip install torch==2\.13\.0"):
        convert(content, SCRIPT_SAID)


# The bundle


def test_the_provenance_names_file_digest_and_sources(convert):
    _, bundle = convert(scores_network(), license="MIT")
    provenance = bundle.manifest.provenance
    assert provenance["file"] == "scores.onnx"
    assert len(provenance["sha256"]) == 64
    assert provenance["settings"]["size"] == "its input"
    assert provenance["settings"]["color"] == "given"
    assert provenance["checked"]["images"] == 5
    assert bundle.manifest.license == "MIT"
    assert bundle.manifest.name == "bundle"


def test_the_same_file_gives_the_same_bundle(convert, tmp_path):
    def contents():
        return {f.name: f.read_bytes() for f in (tmp_path / "bundle").iterdir()}

    convert(scores_network("NHWC"))
    first = contents()
    convert(scores_network("NHWC"), force=True)
    assert contents() == first
    assert set(first) == {"bundle.json", "labels.txt", "model.onnx"}


def with_graph(change) -> bytes:
    """Return the network after ``change(model)``."""
    model = onnx.load_model_from_string(scores_network())
    change(model)
    return model.SerializeToString()


def two_inputs(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def complex_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.COMPLEX64


def strange_name(model):
    model.graph.input[0].name = model.graph.node[0].input[0] = "a\x1bb"


def huge_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def two_channels(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2


def infrared(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def no_shape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def sequence_input(model):
    value = helper.make_tensor_sequence_value_info("picture", TensorProto.FLOAT, [1])
    model.graph.input[0].CopyFrom(value)


def cut(model):
    del model.graph.node[1:3]


def nothing(model):
    model.graph.ClearField("node")


def uint8_output(model):
    model.graph.node.append(helper.make_node("Cast", ["scores"], ["bytes"], to=TensorProto.UINT8))
    model.graph.output[0].name = "bytes"
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8


REFUSED = {
    two_inputs: r"fix input \(NAME=VALUE: the number that each takes: more \(float32\)\)",
    complex_input: "its input picture is complex64; float32, .* export it with a float32 input",
    strange_name: "the name of its input is not printable",
    huge_batch: "takes 1099511627776 images at once; export it with batch 1",
    two_channels: r"its input picture is \[1, 2, 6, 8\]; images of 3 colours .* export it",
    infrared: "4 channels, and the graph does not leave out the fourth itself; export it with 3",
    no_shape: "it breaks a rule of ONNX: Field 'shape'",
    sequence_input: "picture is no tensor with a shape",
    cut: "it breaks a rule of ONNX: ",
    nothing: "neither a TorchScript archive nor ONNX: it has no graph",
    uint8_output: r"it gives no scores: bytes \(uint8 \[1, 5\]\); export it with its scores",
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_model_that_is_no_classifier_of_one_image_is_refused(convert, tmp_path, change):
    with pytest.raises(ConversionError, match=REFUSED[change]):
        convert(with_graph(change))
    assert not (tmp_path / "bundle").exists()


def test_an_output_that_is_no_row_is_refused(convert):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 2, 2])],
    )
    with pytest.raises(ConversionError, match=r"the shape \(1, 3, 2, 2\), not one row of scores"):
        convert(to_onnx(graph))


def test_uint8_that_meets_arithmetic_before_a_cast_is_refused(convert):
    model = onnx.load_model_from_string(scores_network(element="uint8"))
    model.graph.node.insert(0, helper.make_node("Sign", ["picture"], ["sign"]))
    model.graph.node[1].input[0] = "sign"
    with pytest.raises(ConversionError, match="its uint8 input goes into 'Sign' without a Cast"):
        convert(model.SerializeToString(), PLACED)


def test_values_that_are_not_finite_are_refused(convert):
    def spoil(model):
        tensor = next(t for t in model.graph.initializer if t.name == "weights")
        weights = scores_weights()
        weights[0, 0] = np.nan
        tensor.raw_data = weights.tobytes()

    with pytest.raises(ConversionError, match="not finite"):
        convert(with_graph(spoil))


def test_a_model_that_differs_after_the_conversion_is_refused(convert, monkeypatch):
    conversion = import_module("perception_node.engines.importing.graph.conversion")
    wrong = conversion.canonicalise

    def spoil(*arguments, **options):
        model = wrong(*arguments, **options)
        tensor = next(t for t in model.graph.initializer if t.name == "weights")
        tensor.raw_data = (scores_weights() + 0.001).tobytes()
        return model

    monkeypatch.setattr(conversion, "canonicalise", spoil)
    with pytest.raises(ConversionError, match=r"differs by .* the conversion cannot be trusted"):
        convert(scores_network())


def test_the_number_of_labels_must_fit(convert):
    with pytest.raises(LabelMismatch, match="2 labels for a model with 5 classes; one line"):
        convert(scores_network(), replace(SAID, labels=("a", "b")))
    with pytest.raises(LabelMismatch, match=r"begin with a background class\?$"):
        convert(scores_network(), replace(SAID, labels=NAMES[1:]))


@pytest.mark.parametrize("label", ["", "two\nlines", "\x1b[31m"])
def test_a_label_that_is_no_line_of_text_is_refused(convert, label):
    labels = json.dumps([*NAMES[:-1], label])
    with pytest.raises(ConversionError, match="label 5 is no class name"):
        convert(scores_network(metadata={"labels": labels}), replace(SAID, labels=None))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"size": (9, 9)}, "its input is 6x8 pixels, leave out --size"),
        ({"resize": "shorter-side", "shorter_side": 7}, "at least the input's 8 pixels"),
        ({"std": (1.0, 0.0, 1.0)}, "--std must be at least 1e-06"),
        ({"std": (-1.0, -1.0, -1.0)}, "--std must be at least 1e-06"),
    ],
)
def test_a_wish_that_does_not_fit_the_model_is_refused(convert, wish, words):
    with pytest.raises(ConversionError, match=words):
        convert(scores_network(), replace(SAID, **wish))


@pytest.mark.parametrize("flag", [{"mean": (1, 1, 1)}, {"std": (2, 2, 2)}, {"scale": 0.5}])
def test_pixels_are_not_normalised_for_a_model_that_does_it_itself(convert, flag):
    with pytest.raises(ConversionError, match=f"leave out --{next(iter(flag))}"):
        convert(scores_network(element="uint8"), replace(PLACED, **flag))


def test_a_kind_that_the_scores_disprove_is_refused(convert):
    with pytest.raises(ConversionError, match=r"no probabilities .*--output logits"):
        convert(scores_network(), replace(SAID, output="probabilities"))
    with pytest.raises(ConversionError, match="leave out --output logits"):
        convert(scores_network(softmax=True), replace(SAID, output="logits"), force=True)


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
        ((127, 127, 127), (128, 128, 128), 1.0),
        ((0, 0, 0), (255, 255, 255), 1.0),
    ],
)
def test_the_scale_follows_from_mean_and_std(convert, mean, std, scale):
    _, bundle = convert(scores_network(), replace(SAID, mean=mean, std=std))
    assert bundle.manifest.preprocessing.scale == scale


def test_a_scale_that_nothing_tells_is_asked_for(convert):
    wishes = replace(SAID, mean=(0, 0, 0), std=(1, 1, 1), scale=None)
    with pytest.raises(ConversionError, match=r"not say: scale \(SCALE: 1 if .* --scale SCALE$"):
        convert(scores_network(), wishes)
    _, bundle = convert(scores_network(), replace(wishes, scale=1.0))
    assert bundle.manifest.preprocessing.scale == 1.0


@pytest.mark.parametrize("side", [4097, 1 << 40])
def test_a_huge_input_is_refused_before_an_image_is_made_for_it(convert, side):
    def widen(model):
        model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = side

    with pytest.raises(ConversionError, match=f"6x{side} pixels; 1 to 4096 can be used"):
        convert(with_graph(widen))


def test_an_open_size_must_be_given(convert):
    def open_size(model):
        for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            axis.dim_param = "side"

    with pytest.raises(ConversionError, match=r"BUNDLE --size HxW$"):
        convert(with_graph(open_size))
    _, bundle = convert(with_graph(open_size), replace(SAID, size=(HEIGHT, WIDTH)))
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (HEIGHT, WIDTH)


def test_the_sha256_must_be_that_of_the_file(convert):
    with pytest.raises(ConversionError, match="not the one of --trust-model"):
        convert(scores_network(), trust="0" * 64)


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    for path in (tmp_path / "none.onnx", Path(os.devnull)):
        with pytest.raises(ConversionError, match="cannot be read: "):
            import_model(Order(path, tmp_path / "bundle"))


def test_a_missing_package_is_named(convert, monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentLacks, match="needs onnx; run: pip install onnx"):
        convert(scores_network())


def test_a_name_that_no_bundle_can_have_is_refused(convert, tmp_path):
    with pytest.raises(ConfigError, match=r"bundle/bundle\.json: name: "):
        convert(scores_network(), name="no name")
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "bundle").exists()
