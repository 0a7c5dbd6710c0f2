# SPDX-License-Identifier: Apache-2.0
"""A small model that tells colours apart: a red picture gets its score, whatever ends the graph.

Expected scores are worked out by hand from the logits of a red picture: 4, -2 and 0.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, parser

from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.output_kind import settle_kind
from perception_node.engines.importing.settings import Choice, Wishes
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import ConversionError, LabelMismatch
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.import_builders import script, torch

pytestmark = pytest.mark.usefixtures("in_this_process")

NAMES = ("red", "green", "blue")
PLAIN = {
    "color": "RGB",
    "resize": "stretch",
    "scale": 1 / 255,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}
THREE = "float[3,3] w = {4, -2, 0, -2, 4, 0, 0, -2, 4}"
ONE = "float[3,1] w = {4, -2, -2}"
RED = np.full((16, 16, 3), (0, 0, 255), np.uint8)  # BGR


def sigmoid(logit):
    return 1.0 / (1.0 + math.exp(-logit))


def network(ending, weights=THREE, classes=3, shape=""):
    """Return a model whose logits are the mean colour by weights, then what ``ending`` does."""
    text = f"""g (float[1,3,8,8] image) => ({shape or f"float[1,{classes}]"} p)
        <{weights}, float one = {{1}}, float hundred = {{100}}, float step = {{0.00390625}},
         uint8 origin = {{0}}, int64[1] two = {{2}}, int64[0] none = {{}},
         int64[1] ones1 = {{1}}, int64[2] ones2 = {{1, 1}}, int64[4] ones4 = {{1, 1, 1, 1}}>
        {{ g = GlobalAveragePool(image) f = Flatten(g) z = MatMul(f, w) {ending} }}"""
    opset = [helper.make_opsetid("", 17)]
    graph = parser.parse_graph(text)
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture
def classify(tmp_path):
    """Import a model, and return what its bundle says of a red picture: scores by label."""

    def run(model, labels=NAMES, **wishes):
        file, folder = tmp_path / "model.onnx", tmp_path / "bundle"
        file.write_bytes(model)
        order = Order(file, folder, Wishes(**PLAIN, labels=labels, **wishes), photos=[RED])
        imported = import_model(order)
        bundle = load_bundle(folder)
        assert bundle.manifest == imported.manifest
        with Pipeline(bundle, OnnxRuntimeEngine(bundle)) as pipeline:
            found = pipeline.run(Frame.from_bgr(RED), top_k=5, threshold=0.0).hypotheses
        return imported, {each.label: each.score for each in found}

    return run


SOFTMAX = {"red": 0.97962, "green": 0.002428, "blue": 0.017943}
SIGMOID = {"red": sigmoid(4), "green": sigmoid(-2), "blue": 0.5}
ENDINGS = {
    "logits": ("p = Identity(z)", "logits", "MatMul", SOFTMAX),
    "softmax": ("p = Softmax(z)", "probabilities", "Softmax", SOFTMAX),
    "log softmax": ("p = LogSoftmax(z)", "logits", "LogSoftmax", SOFTMAX),
    "sigmoid": ("p = Sigmoid(z)", "sigmoid", "Sigmoid", SIGMOID),
    "quantised softmax": (
        """s = Softmax(z) q = QuantizeLinear(s, step, origin)
        p = DequantizeLinear(q, step, origin)""",
        "probabilities",
        "Softmax",
        SOFTMAX,
    ),
    "quantised sigmoid": (
        """s = Sigmoid(z) q = QuantizeLinear(s, step, origin)
        p = DequantizeLinear(q, step, origin)""",
        "sigmoid",
        "Sigmoid",
        SIGMOID,
    ),
    "half precision": (
        "h = Cast<to=10>(z) s = Softmax(h) p = Cast<to=1>(s)",
        "probabilities",
        "Softmax",
        SOFTMAX,
    ),
}


@pytest.mark.parametrize(("ending", "kind", "operator", "scores"), ENDINGS.values(), ids=ENDINGS)
def test_the_last_operator_decides_what_the_scores_are(classify, ending, kind, operator, scores):
    imported, found = classify(network(ending))
    assert imported.manifest.output.kind == kind
    assert imported.choices["output"].source == f"its last operator, {operator}"
    assert found == pytest.approx(scores, abs=1 / 256)


def test_a_sigmoid_can_be_asked_for(classify):
    imported, found = classify(network("p = Identity(z)"), output="sigmoid-logits")
    assert imported.choices["output"] == ("sigmoid-logits", "given")
    assert found == pytest.approx(SIGMOID, abs=1e-5)


ASKED = {
    "softmax of the batch": (
        "p = Softmax<axis=0>(z)",
        r"its last operator, Softmax, gives probabilities, but on images they .* add up to 3 to 3",
    ),
    "a hundred percent": (
        "s = Softmax(z) p = Mul(s, hundred)",
        "its last operator, Softmax, gives probabilities, but on images they .* add up to 100",
    ),
    "pooled activations that may be scores": (
        "a = Elu(f) b = Unsqueeze(a, two) p = ReduceMean<axes=[2], keepdims=0>(b)",
        "its last operator, ReduceMean, gives logits, but on images they range from 0",
    ),
    "tanh": ("p = Tanh(z)", "its graph ends in Tanh, which does not show"),
}


@pytest.mark.parametrize(("ending", "words"), ASKED.values(), ids=ASKED)
def test_what_the_graph_does_not_show_or_the_values_disprove_is_asked(classify, ending, words):
    with pytest.raises(ConversionError, match=words) as caught:
        classify(network(ending))
    kinds = "(KIND: logits, probabilities, sigmoid, sigmoid-logits); complete and run: "
    assert kinds in str(caught.value)
    assert str(caught.value).endswith(" --output KIND")
    imported, _ = classify(network(ending), output="logits")
    assert imported.manifest.output.kind == "logits"


WRONG = {
    "a second softmax": ("p = Softmax(z)", "logits", "leave out --output logits"),
    "a second sigmoid": ("p = Sigmoid(z)", "sigmoid-logits", "leave out --output sigmoid-logits"),
    "a softmax of sigmoids": ("p = Sigmoid(z)", "logits", "leave out --output logits"),
    "logits for scores": (
        "p = Identity(z)", "sigmoid", r"no sigmoid \(given\).*--output logits\|sigmoid-logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ending", "kind", "words"), WRONG.values(), ids=WRONG)
def test_a_kind_that_the_model_disproves_is_refused(classify, tmp_path, ending, kind, words):
    with pytest.raises(ConversionError, match=words):
        classify(network(ending), output=kind)
    assert not (tmp_path / "bundle").exists()


def test_what_a_maker_says_and_the_model_disproves_is_asked():
    graph = {"head": ("sigmoid", "Sigmoid", False)}
    values = {"range": (0.1, 0.9), "sums": (1.2, 1.4), "probabilities": False, "kind": None}
    said = Choice("logits", "config.json")
    with pytest.raises(ConversionError, match=r"config\.json says logits: give --output sigmoid"):
        settle_kind(Path("m.onnx"), said, graph, values, "perception import m.onnx")


ONE_SCORE = {
    "logit": ("p = Identity(z)", {}, "logits"),
    "logit, said": ("p = Identity(z)", {"output": "sigmoid-logits"}, "logits"),
    "logit, said otherwise": ("p = Identity(z)", {"output": "logits"}, "logits"),
    "sigmoid": ("p = Sigmoid(z)", {}, "probabilities"),
    "sigmoid, said": ("p = Sigmoid(z)", {"output": "sigmoid"}, "probabilities"),
    "no axis": ("s = Sigmoid(z) p = Flatten<axis=0>(s)", {}, "probabilities"),
}


@pytest.mark.parametrize(("ending", "wishes", "kind"), ONE_SCORE.values(), ids=ONE_SCORE)
def test_one_score_is_a_choice_of_two(classify, ending, wishes, kind):
    model = network(ending, ONE, 1)
    imported, found = classify(model, ("no", "yes"), **wishes)
    assert (imported.manifest.output.kind, imported.manifest.output.classes) == (kind, 2)
    assert imported.difference < 1e-6
    assert found == pytest.approx({"yes": sigmoid(4), "no": sigmoid(-4)}, abs=1e-5)


@pytest.mark.parametrize(
    "shape", ["float", "float[1]", "float[N]", "float[N,1]", "float[1,1,1,1]"]
)
def test_one_score_may_have_any_shape(classify, shape):
    axes = shape.count(",") + ("[" in shape)
    ending = f"s = Sigmoid(z) p = Reshape(s, {('none', 'ones1', 'ones2', '', 'ones4')[axes]})"
    model = network(ending, ONE, 1, shape=shape)
    _, found = classify(model, ("no", "yes"))
    assert found == pytest.approx({"yes": sigmoid(4), "no": sigmoid(-4)}, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_module_may_give_one_score(classify):
    nn = torch().nn

    class Redness(nn.Module):
        def forward(self, x):
            red, green, blue = x.mean([0, 2, 3]).unbind()
            return (4.0 * red - 2.0 * green - 2.0 * blue).sigmoid()

    imported, found = classify(script(Redness()), ("no", "yes"), size=(8, 8))
    assert imported.choices["output"].source == "its last operator, Sigmoid"
    assert found == pytest.approx({"yes": sigmoid(4), "no": sigmoid(-4)}, abs=1e-5)


@pytest.mark.parametrize("ending", ["p = Identity(z)", "p = Sigmoid(z)"])
def test_one_score_with_one_label_is_there_or_not(classify, ending):
    imported, found = classify(network(ending, ONE, 1), ("defect",), thresholds=(0.5,))
    assert imported.manifest.output.is_multi_label
    assert found == pytest.approx({"defect": sigmoid(4)}, abs=1e-5)


def test_one_score_that_cannot_be_read_is_refused(classify):
    with pytest.raises(ConversionError, match="one score is no softmax; give --output sigmoid"):
        classify(network("p = Softmax(z)", ONE, 1), ("no", "yes"))
    with pytest.raises(ConversionError, match="a logit or a probability; give --output sigmoid"):
        classify(network("p = Tanh(z)", ONE, 1), ("no", "yes"))
    with pytest.raises(ConversionError, match=r"no sigmoid \(given\)"):
        classify(
            network("p = Tanh(z)", "float[3,1] w = {-4, 2, 2}", 1), ("no", "yes"), output="sigmoid"
        )
    with pytest.raises(ConversionError, match="values are sigmoid; leave out --output"):
        classify(network("p = Sigmoid(z)", ONE, 1), ("no", "yes"), output="sigmoid-logits")
    with pytest.raises(LabelMismatch, match="3 labels for a model with 2 classes"):
        classify(network("p = Sigmoid(z)", ONE, 1))


def test_thresholds_leave_out_what_does_not_reach_them(classify):
    imported, found = classify(network("p = Sigmoid(z)"), thresholds=(0.5, 0.01, 0.6))
    assert imported.manifest.output.thresholds == (0.5, 0.01, 0.6)
    assert list(found) == ["red", "green"]


def test_one_threshold_is_for_all(classify):
    assert list(classify(network("p = Sigmoid(z)"), thresholds=(0.4,))[1]) == ["red", "blue"]


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("p = Softmax(z)", "--thresholds is for sigmoid and sigmoid-logits scores"),
        ("p = Sigmoid(z)", "--thresholds has 2 numbers for 3 classes"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(classify, ending, words):
    with pytest.raises(ConversionError, match=words):
        classify(network(ending), thresholds=(0.4, 0.5))
