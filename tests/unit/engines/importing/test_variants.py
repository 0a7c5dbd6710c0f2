# SPDX-License-Identifier: Apache-2.0
"""Classifiers in many forms give the scores that are known by hand, or say what must be said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.importing.settings import Wishes
from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.errors import ConversionError
from tests.variant_builders import (
    COLOURS,
    FLOAT,
    SIDE,
    WEIGHTS,
    batch,
    constant,
    float16,
    float64,
    grey,
    head,
    large,
    model,
    node,
    shuffled,
    value,
    variant,
    with_inputs,
    with_rgba,
    zip_map,
)

SAID = Wishes(
    color="RGB", resize="stretch", scale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1), labels=COLOURS
)
PIXELS = Wishes(color="RGB", resize="stretch", labels=COLOURS)


def scores(bundle, image):
    """Return what a bundle's model gives for (1, 3, height, width) float32."""
    content = bundle.read()
    made = onnx.load_model_from_string(content)
    assert {each.domain for each in made.opset_import} <= {"", "ai.onnx"}
    types = {tensor.data_type for tensor in made.graph.initializer}
    assert TensorProto.DOUBLE not in types
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert (source.type, source.shape) == ("tensor(float)", [1, 3, *image.shape[2:]])
    (found,) = session.run([bundle.manifest.output.name], {source.name: image})
    assert (found.shape, found.dtype) == ((1, 5), np.float32)
    return found[0]


def picture(height=SIDE[0], width=SIDE[1]):
    """Return noise of another strength in each channel."""
    image = np.random.default_rng(3).uniform(0, 1, (1, 3, height, width))
    image *= np.array([0.9, 0.5, 0.2])[:, None, None]
    return image.astype(np.float32)


def expected(image):
    return WEIGHTS @ image.mean((2, 3))[0]


def two_outputs(first, second):
    """Return the classifier with the row of three means as another output."""
    shapes = {"logits": [1, 5], "row": [1, 3]}
    return variant(outputs=[value(name, FLOAT, shapes[name]) for name in (first, second)])


def old_style():
    """Return a file of 2018: weights are inputs too."""
    nodes, weights = head()
    inputs = [
        value("image", FLOAT, [1, 3, *SIDE]),
        value("weights", FLOAT, [5, 3]),
        value("bias", FLOAT, [5]),
    ]
    return model(nodes, weights, inputs, [value("logits", FLOAT, [1, 5])], opset=7, format_=3)


NUMBER = value("keep_prob", FLOAT, [])
RIGHT = {
    "ZipMap and names": (zip_map(), "ZipMap cut away: the output is its row of 5 scores"),
    "ZipMap alone": (zip_map(extra=False), "ZipMap cut away"),
    "scores before another row": (two_outputs("logits", "row"), "as many as labels), not row"),
    "scores behind another row": (two_outputs("row", "logits"), "as many as labels), not row"),
    "best class beside scores": (
        variant(
            [node("ArgMax", ["logits"], ["best"], axis=1)],
            outputs=[value("best", TensorProto.INT64, [1, 1]), value("logits", FLOAT, [1, 5])],
        ),
        "output logits taken (the only one with scores), not best",
    ),
    "keep_prob": (with_inputs(NUMBER), "input keep_prob fixed at 1 (as its name says)"),
    "keep_prob of shape (1,)": (
        with_inputs(value("dropout/keep_prob:0", FLOAT, [1])),
        "input dropout/keep_prob:0 fixed at 1",
    ),
    "float64": (float64(), "float64 is computed in float32"),
    "float64 input": (float64(everywhere=False), "float64 is computed in float32"),
    "nodes in reverse": (shuffled(variant()), "nodes sorted"),
    "old file": (old_style(), "opset 7 raised to 17"),
    "opset 11": (variant(opset=11, format_=6), "opset 11 raised to 17"),
    "newest file format": (variant(format_=onnx.IR_VERSION), ""),
    **{
        f"batch of {size}, {form}": (batch(size, form), note)
        for size, form, note in (
            (8, "plain", "batch fixed at 8: the graph is rewritten to 1"),
            (3, "reshape", "batch fixed at 3: the graph is rewritten to 1"),
            (4, "windows", "batch fixed at 4: the graph is rewritten to 1"),
            (3, "computed", "batch fixed at 3: the graph is rewritten to 1"),
            (2, "token", "batch fixed at 2: the graph is rewritten to 1"),
            (3, "odd", "batch fixed at 3: it gets 3 copies of each image; export batch 1"),
        )
    },
    "output (1, C, 1, 1)": (
        variant(
            [node("Unsqueeze", ["logits", "axes"], ["deep"])],
            outputs=[value("deep", FLOAT, [1, 5, 1, 1])],
            weights=[constant("axes", [2, 3])],
        ),
        "",
    ),
    "output (C,)": (
        variant(
            [node("Squeeze", ["logits", "axes"], ["flat"])],
            outputs=[value("flat", FLOAT, [5])],
            weights=[constant("axes", [0])],
        ),
        "",
    ),
    "output (1, 1, C)": (
        variant(
            [node("Unsqueeze", ["logits", "axes"], ["deep"])],
            outputs=[value("deep", FLOAT, [1, 1, 5])],
            weights=[constant("axes", [0])],
        ),
        "",
    ),
}


@pytest.mark.parametrize(("content", "note"), RIGHT.values(), ids=RIGHT)
def test_every_form_gives_the_right_scores_and_says_what_was_changed(convert, content, note):
    imported, bundle = convert(content, SAID)
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)
    assert (note in "; ".join(imported.notes)) if note else not imported.notes
    if note:
        assert bundle.manifest.provenance["changed"] == list(imported.notes)
    else:
        assert "changed" not in bundle.manifest.provenance


def test_float16_differs_by_rounding_alone(convert):
    imported, bundle = convert(float16(), SAID)
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=0.02)
    assert imported.difference < 0.02


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (large(np.float64), "float64 is computed in float32"),
        (large(np.float16), ""),
        (large(opset=9), "opset 9 raised to 17"),
        (large(size=4), "batch fixed at 4: the graph is rewritten to 1"),
        (large(opset=9, size=2), "opset 9 raised to 17; batch fixed at 2"),
    ],
    ids=["float64", "float16", "opset", "batch", "opset and batch"],
)
def test_weights_that_lie_apart_are_changed_too(convert, content, note):
    imported, bundle = convert(content, SAID)
    if onnx.__version__.startswith("1.17."):  # its converter cannot: the opset stays
        note = note.removeprefix("opset 9 raised to 17").removeprefix("; ")
    assert note in "; ".join(imported.notes)
    image = picture(64, 96)
    assert scores(bundle, image) == pytest.approx(expected(image), abs=0.02)


# Grey

GREY = {
    "NCHW": grey((1, 1, *SIDE)),
    "NHWC, open batch": grey((None, *SIDE, 1), transposed=True),
    "NHW": grey((None, *SIDE)),
    "CHW": grey((1, *SIDE)),
    "float16": grey((1, 1, *SIDE), element=TensorProto.FLOAT16),
    "float64": grey((1, 1, *SIDE), element=TensorProto.DOUBLE),
}


PARSED = {**{name: content for name, (content, _) in RIGHT.items()}, **GREY}


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("content", GREY.values(), ids=GREY)
def test_grey_is_made_of_either_order_of_colours(convert, content, color):
    imported, bundle = convert(content, replace(SAID, color=color, mean=(0.5,) * 3))
    assert any("grey is made of the colours" in note for note in imported.notes)
    image = picture()
    shares = {"RGB": [0.299, 0.587, 0.114], "BGR": [0.114, 0.587, 0.299]}[color]
    mean = shares @ image.mean((2, 3))[0]
    assert scores(bundle, image) == pytest.approx(np.arange(-2, 3) * mean, abs=1e-3)


def test_grey_needs_no_order_of_colours(convert):
    imported, _ = convert(GREY["NCHW"], replace(SAID, color=None))
    assert imported.choices["color"].source == "its input is grey"


@pytest.mark.parametrize("element", [TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64])
def test_grey_in_whole_numbers_is_rounded(convert, element):
    imported, bundle = convert(grey((1, 1, *SIDE), element=element), PIXELS)
    assert imported.difference <= 1e-4
    image = np.floor(picture() * 255)
    shares = np.array([0.299, 0.587, 0.114])[:, None, None]
    mean = np.rint((image * shares).sum(1)).mean()
    assert scores(bundle, image) == pytest.approx(np.arange(-2, 3) * mean, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("content", PARSED.values(), ids=PARSED)
def test_nvidias_parser_takes_every_form_once_rewritten(convert, content, precision):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    _, bundle = convert(content, SAID)
    made = bundle.read() if precision == "fp32" else to_half_precision(bundle.read())
    assert build_plan(load_tensorrt("tensorrt-rtx"), made, precision, BuildOptions()).plan


# Inputs


@pytest.mark.parametrize(
    ("extra", "factor"),
    [
        (value("is_training", TensorProto.BOOL, []), 0),
        (value("phase_train", FLOAT, [1]), 0),
        (value("keras_learning_phase", TensorProto.INT32, []), 0),
        (value("dropout_rate", FLOAT, []), 0),
        (value("is_test", TensorProto.INT64, [1]), 1),
    ],
)
def test_an_input_that_takes_no_image_gets_what_its_name_says(convert, extra, factor):
    _, bundle = convert(with_inputs(extra), SAID)
    image = picture()
    assert scores(bundle, image) == pytest.approx(factor * expected(image), abs=1e-4)


def test_an_input_that_is_not_known_is_asked_for(convert):
    content = with_inputs(value("temperature", FLOAT, []))
    with pytest.raises(ConversionError, match=r"temperature \(float32\)\); .* --fix-input NAME"):
        convert(content, SAID)
    _, bundle = convert(content, replace(SAID, fixed_inputs={"temperature": 0.5}))
    image = picture()
    assert scores(bundle, image) == pytest.approx(0.5 * expected(image), abs=1e-4)


@pytest.mark.parametrize(
    ("extra", "given", "words"),
    [
        (value("mask", FLOAT, [1, 7]), {}, r"it has 2 inputs: image .*, mask \[1, 7\]; export"),
        (NUMBER, {"keep": 1.0}, "no input 'keep' that takes one number; correct --fix-input"),
        (value("flag", TensorProto.BOOL, []), {"flag": 0.5}, "--fix-input flag: 0.5 is no bool"),
    ],
)
def test_other_inputs_are_refused_by_name(convert, extra, given, words):
    with pytest.raises(ConversionError, match=words):
        convert(with_inputs(extra), replace(SAID, fixed_inputs=given))


# Open and odd shapes


@pytest.mark.parametrize("shape", [(None,) * 4, (None, None, *SIDE), ("a", "b", "c", "d")])
def test_open_channels_are_asked_for(convert, shape):
    with pytest.raises(ConversionError, match=r"\(LAYOUT: NCHW or NHWC, .* --layout LAYOUT"):
        convert(variant(shape=shape), SAID)
    size = SIDE if shape[2] != SIDE[0] else None
    _, bundle = convert(variant(shape=shape), replace(SAID, layout="NCHW", size=size))
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)


def test_a_layout_that_does_not_fit_is_refused(convert):
    with pytest.raises(ConversionError, match=r"\[1, 3, 12, 16\], not NHWC; correct --layout"):
        convert(variant(), replace(SAID, layout="NHWC"))


def test_an_open_size_is_asked_for_in_nhwc(convert):
    content = variant(shape=(None, None, None, 3), transposed=True)
    with pytest.raises(ConversionError, match="--size HxW"):
        convert(content, SAID)
    _, bundle = convert(content, replace(SAID, size=(20, 30)))
    image = picture(20, 30)
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)


def test_a_batch_whose_images_are_mixed_is_refused(convert):
    mixed = [node("ReduceMean", ["image"], ["x"], axes=[0], keepdims=1)]
    content = variant(before=mixed, source="x", shape=(4, 3, *SIDE))
    with pytest.raises(ConversionError, match=r"\(1, 5\), no row for each of its 4 images"):
        convert(content, SAID)
    mixed = [
        node("ReduceMean", ["image"], ["mean"], axes=[0], keepdims=1),
        node("Sub", ["image", "mean"], ["x"]),
    ]
    content = variant(before=mixed, source="x", shape=(4, 3, *SIDE))
    with pytest.raises(ConversionError, match="the conversion cannot be trusted"):
        convert(content, SAID)


# RGBA

DROPPING = {
    "Slice": [node("Slice", ["image", "zero", "three_", "last"], ["three"])],
    "Slice behind a Transpose": [
        node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        node("Slice", ["turned", "zero", "last", "channel"], ["cut"]),
        node("Transpose", ["cut"], ["three"], perm=[0, 2, 3, 1]),
    ],
    "Gather": [node("Gather", ["image", "rgb"], ["three"], axis=-1)],
    "Cast before": [
        node("Cast", ["image"], ["double"], to=TensorProto.FLOAT),
        node("Gather", ["double", "rgb"], ["three"], axis=3),
    ],
}


@pytest.mark.parametrize("dropping", DROPPING.values(), ids=DROPPING)
def test_alpha_that_the_graph_drops_makes_it_rgba(convert, dropping):
    imported, bundle = convert(with_rgba(dropping), Wishes(labels=COLOURS))
    assert imported.manifest.preprocessing.scale == 1.0
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)


def test_a_fourth_channel_that_is_used_is_no_alpha(convert):
    used = [node("ReduceMean", ["image"], ["mean"], axes=[3], keepdims=1)]
    used.append(node("Concat", ["mean"] * 3, ["three"], axis=3))
    content = with_rgba(used)
    with pytest.raises(ConversionError, match=r"leave out the fourth .* give --layout NHWCA if"):
        convert(content, Wishes(labels=COLOURS))


# Outputs


def test_the_best_class_alone_is_refused_with_a_way_out(convert):
    tail = [
        node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        node("Cast", ["best"], ["number"], to=TensorProto.INT32),
    ]
    content = variant(tail, outputs=[value("number", TensorProto.INT32, [1])])
    words = (
        r"no scores: number \(int32 \[1\]\) \(class numbers of ArgMax\); give --output-name logits"
    )
    with pytest.raises(ConversionError, match=words):
        convert(content, SAID)
    _, bundle = convert(content, replace(SAID, output_name="logits"))
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)


def test_outputs_that_cannot_be_told_apart_are_listed(convert):
    tail = [node("Softmax", ["logits"], ["shares"], axis=1)]
    both = [value("logits", FLOAT, [1, 5]), value("shares", FLOAT, [1, 5])]
    content = variant(tail, outputs=both)
    words = (
        r"does not say: output name \(NAME: logits \(float32 \[1, 5\]\), "
        r"shares \(float32 \[1, 5\]\)\); complete and run: .* --output-name NAME$"
    )
    with pytest.raises(ConversionError, match=words):
        convert(content, SAID)
    _, bundle = convert(content, replace(SAID, output_name="shares"))
    assert bundle.manifest.output.kind == "probabilities"


def test_without_labels_the_only_row_is_the_obvious_one(convert):
    maps = value("image_out", FLOAT, [1, 3, *SIDE])
    content = variant(
        [node("Relu", ["image"], ["image_out"])], outputs=[maps, value("logits", FLOAT, [1, 5])]
    )
    with pytest.raises(ConversionError, match="--labels"):  # nothing else is asked
        convert(content, replace(SAID, labels=None))
    imported, _ = convert(content, SAID)
    assert "output logits taken" in imported.notes[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", r"no output 'nothing'; its outputs are logits .*; correct --output-name"),
        ("row", "labels for a model with 3 classes"),
    ],
)
def test_an_output_name_that_does_not_fit_is_refused(convert, name, words):
    with pytest.raises(Exception, match=words) as caught:
        convert(variant(), replace(SAID, output_name=name, output="logits"))
    assert "\n" not in str(caught.value)


def test_all_that_a_graph_leaves_open_is_asked_at_once(convert):
    content = variant(
        before=[node("Mul", ["image", "temperature"], ["x"])],
        source="x",
        shape=(None,) * 4,
        inputs=[value("temperature", FLOAT, []), value("gain", TensorProto.BOOL, [1])],
        outputs=[value("logits", FLOAT, [1, 5]), value("row", FLOAT, [1, 3])],
    )
    with pytest.raises(ConversionError) as caught:
        convert(content, Wishes())
    asked = str(caught.value).partition("complete and run: ")[2]
    flags = [word for word in asked.split() if word.startswith("--")]
    assert flags[:3] == ["--output-name", "--fix-input", "--layout"]
    assert {"--size", "--color", "--resize", "--mean", "--std", "--labels"} < set(flags)
    assert str(caught.value).count("\n") == 0
    assert "logits (float32 [1, 5]), row (float32 [1, 3])" in str(caught.value)


def test_names_of_a_zip_map_become_labels(convert):
    imported, bundle = convert(zip_map(), replace(SAID, labels=None))
    assert bundle.labels == COLOURS
    assert imported.choices["labels"].source == "its ZipMap"


def test_what_other_outputs_need_is_left_out(convert):
    """An input that only another output needs is not asked for."""
    words = value("words", FLOAT, [1, 7])
    content = variant(
        [node("Relu", ["words"], ["text"])],
        inputs=[words],
        outputs=[value("text", FLOAT, [1, 7]), value("logits", FLOAT, [1, 5])],
    )
    _, bundle = convert(content, SAID)
    image = picture()
    assert scores(bundle, image) == pytest.approx(expected(image), abs=1e-4)
    made = onnx.load_model_from_string(bundle.read())
    assert [each.op_type for each in made.graph.node] == ["GlobalAveragePool", "Flatten", "Gemm"]


# Newer than what is installed


def test_an_opset_that_nothing_reads_says_which_and_what_to_do(convert):
    newest = onnx.defs.onnx_opset_version()
    loaded = onnx.load_model_from_string(variant())
    loaded.opset_import[0].version = newest + 1
    words = rf"its opset {newest + 1} is newer than {newest}, .* opset_version=17"
    with pytest.raises(ConversionError, match=words):
        convert(loaded.SerializeToString(), SAID)


def test_a_new_file_format_is_stated_as_the_oldest_that_will_do(convert):
    _, bundle = convert(variant(opset=17, format_=onnx.IR_VERSION), SAID)
    made = onnx.load_model_from_string(bundle.read())
    assert made.ir_version == helper.find_min_ir_version_for(list(made.opset_import)) == 8
