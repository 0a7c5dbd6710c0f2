# SPDX-License-Identifier: Apache-2.0
"""Whatever a graph ends in, its scores are read as what they are.

Each form is run in ONNX Runtime: what is found must turn its output into the right scores.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, parser

from perception_node.engines.importing.graph.head import Head, find_head
from perception_node.vision.postprocess import Postprocessor

IMAGE = np.array([[0.5, -0.25, 1.0]], np.float32)
LOGITS = np.array([2.0, 0.5, 0.0, -2.5], np.float32)  # of IMAGE
CONSTANTS = """
    float[3,4] w = {1, 0, 0, -1, 0, 2, 0, 0, 1.5, 1, 0, -2},
    float zero = {0}, float one = {1}, float two = {2}, float half = {0.5}, float third = {3},
    float six = {6}, float hundred = {100}, float tiny = {1e-7}, float low = {-50},
    float high = {50}, float almost = {0.9999999}, float[4] several = {1, 2, 3, 4},
    int64[1] last = {1}, int64[2] flat = {1, -1}, int64[4] four = {1, 4, 1, 1},
    int64[1] from = {0}, int64[1] to = {4}, int64[4] order = {0, 1, 2, 3},
    float step = {0.00390625}, uint8 origin = {0}, float coarse = {0.05}, uint8 middle = {128}
"""
SOFTMAX = {
    "softmax": "p = Softmax<axis=1>(z)",
    "softmax of the last axis": "p = Softmax<axis=-1>(z)",
    "temperature before": "s = Mul(z, two) s2 = Div(s, two) p = Softmax<axis=1>(s2)",
    "spelled out": "e = Exp(z) t = ReduceSum<keepdims=1>(e, last) p = Div(e, t)",
    "spelled out, stable": """m = ReduceMax<axes=[1], keepdims=1>(z) d = Sub(z, m) e = Exp(d)
        t = ReduceSum<keepdims=1>(e, last) t2 = Add(t, tiny) p = Div(e, t2)""",
    "by a reciprocal": """e = Exp(z) t = ReduceSum<keepdims=1>(e, last) r = Reciprocal(t)
        p = Mul(r, e)""",
    "exp of a log softmax": "l = LogSoftmax<axis=1>(z) p = Exp(l)",
    "clipped": "s = Softmax<axis=1>(z) p = Clip(s, tiny, almost)",
    "between two limits": "s = Softmax<axis=1>(z) a = Max(s, zero) p = Min(a, one)",
    "mean of two": "a = Softmax<axis=1>(z) b = Softmax<axis=1>(z) c = Add(a, b) p = Div(c, two)",
    "mean of joined ones": """a = Softmax<axis=1>(z) b = Softmax<axis=1>(z)
        c = Concat<axis=0>(a, b) p = ReduceMean<axes=[0]>(c)""",
    "through axes": """a = Reshape(z, four) s = Softmax<axis=1>(a) b = Flatten(s)
        p = Identity(b)""",
    "cast": "a = Cast<to=11>(z) s = Softmax<axis=1>(a) p = Cast<to=1>(s)",
    "pooled": """a = Reshape(z, four) s = Softmax<axis=1>(a) b = GlobalAveragePool(s)
        p = Flatten(b)""",
}
LOGARITHMS = {
    "linear": "p = Identity(z)",
    "a bias": "a = Add(z, zero) p = Sub(a, zero)",
    "limited": "p = Clip(z, low, high)",
    "log softmax": "p = LogSoftmax<axis=1>(z)",
    "log of a softmax": "s = Softmax<axis=1>(z) c = Clip(s, tiny, one) p = Log(c)",
    "log softmax spelled out": """m = ReduceMax<axes=[1], keepdims=1>(z) d = Sub(z, m) e = Exp(d)
        t = ReduceSum<keepdims=1>(e, last) l = Log(t) p = Sub(d, l)""",
    "log softmax by log sum exp": "l = ReduceLogSumExp<axes=[1]>(z) p = Sub(z, l)",
    "sum of two": "a = Mul(z, half) p = Add(a, a)",
    "dequantised": """q = QuantizeLinear(z, coarse, middle)
        p = DequantizeLinear(q, coarse, middle)""",
    "shifted by the mean": "m = ReduceMean<axes=[1], keepdims=1>(z) p = Sub(z, m)",
}
SIGMOID = {
    "sigmoid": "p = Sigmoid(z)",
    "cast": "a = Cast<to=11>(z) s = Sigmoid(a) p = Cast<to=1>(s)",
    "spelled out": "n = Neg(z) e = Exp(n) t = Add(one, e) p = Div(one, t)",
    "by a reciprocal": "n = Neg(z) e = Exp(n) t = Add(e, one) p = Reciprocal(t)",
    "with exp above": "e = Exp(z) t = Add(e, one) p = Div(e, t)",
    "one minus the opposite": "n = Neg(z) s = Sigmoid(n) p = Sub(one, s)",
    "by tanh": "h = Mul(z, half) t = Tanh(h) a = Mul(t, half) p = Add(a, half)",
    "by tanh, divided": "h = Div(z, two) t = Tanh(h) a = Add(t, one) p = Div(a, two)",
    "by softplus": "n = Neg(z) s = Softplus(n) l = Neg(s) p = Exp(l)",
    "exp of its log": "s = Sigmoid(z) l = Log(s) p = Exp(l)",
    "clipped": "s = Sigmoid(z) p = Clip(s, tiny, almost)",
    "joined": "a, b = Split<axis=1>(z) c = Sigmoid(a) d = Sigmoid(b) p = Concat<axis=1>(c, d)",
    "without NaN": "s = Sigmoid(z) n = IsNaN(s) p = Where(n, half, s)",
    "in two ways": """e = Exp(z) t = Add(e, one) a = Div(e, t) n = Neg(z) f = Exp(n)
        u = Add(one, f) b = Div(one, u) g = Greater(z, zero) p = Where(g, b, a)""",
    "mean of two": "s = Sigmoid(z) a = Concat<axis=0>(s, s) p = ReduceMean<axes=[0]>(a)",
    "through axes": "s = Sigmoid(z) a = Reshape(s, four) b = Squeeze(a) p = Reshape(b, flat)",
}
HARD = {
    "hard sigmoid": "p = HardSigmoid<alpha=0.16666667, beta=0.5>(z)",
    "spelled out": "a = Add(z, third) b = Clip(a, zero, six) p = Div(b, six)",
    "clipped": "a = Div(z, six) b = Add(a, half) p = Clip(b, zero, one)",
}
UNKNOWN = {
    "times 100": ("s = Sigmoid(z) p = Mul(s, hundred)", "Sigmoid"),
    "one weight per class": ("s = Sigmoid(z) p = Mul(s, several)", "Sigmoid"),
    "tanh": ("p = Tanh(z)", "Tanh"),
    "rectified": ("p = Relu(z)", "Relu"),
    "limited to 6": ("p = Clip(z, zero, six)", "Clip"),
    "exp": ("p = Exp(z)", "Exp"),
    "negative log": ("l = LogSoftmax<axis=1>(z) p = Neg(l)", "LogSoftmax"),
    "log of a sigmoid": ("s = Sigmoid(z) p = Log(s)", "Sigmoid"),
    "of unit length": ("n = ReduceL2<axes=[1]>(z) p = Div(z, n)", "Div"),
    "gated": ("s = Sigmoid(z) p = Mul(z, s)", "Mul"),
    "half of a softmax cut off": ("s = Softmax<axis=1>(z) p = Clip(s, half, one)", "Clip"),
    "a limit by Where": ("g = Greater(z, zero) p = Where(g, z, zero)", "Where"),
    "indices": ("a = Cast<to=7>(z) p = Cast<to=1>(a)", "Cast"),
    "mixed": ("s = Sigmoid(z) p = Add(s, z)", "Add"),
    "an input": ("p = Identity(image)", ""),
    "a constant": ("p = Identity(several)", ""),
}  # fmt: skip


def graph_of(body):
    """Return the graph ``z = image x w``, then ``body``, which makes p."""
    text = f"g (float[1,3] image) => (float p) <{CONSTANTS}> {{ z = MatMul(image, w) {body} }}"
    return parser.parse_graph(text)


def run(graph):
    """Return what a graph gives for IMAGE, as a row."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph.output[0].type.tensor_type.ClearField("shape")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"image": IMAGE})[0].reshape(1, -1)


def scores(kind, row):
    """Return the score of every class."""
    names = tuple("abcd")
    found = Postprocessor(kind, names).best(row, top_k=4, threshold=0.0)
    return [h.score for h in sorted(found)]


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def check(body, kind, expected, tolerance=1e-6):
    graph = graph_of(body)
    assert find_head(graph, "p").kind == kind
    assert scores(kind, run(graph)) == pytest.approx(list(expected), abs=tolerance)


@pytest.mark.parametrize("body", SOFTMAX.values(), ids=SOFTMAX)
def test_probabilities(body):
    check(body, "probabilities", softmax(LOGITS))


@pytest.mark.parametrize("body", LOGARITHMS.values(), ids=LOGARITHMS)
def test_logits_and_logarithms_of_probabilities(body):
    check(body, "logits", softmax(LOGITS))


@pytest.mark.parametrize("body", SIGMOID.values(), ids=SIGMOID)
def test_independent_scores(body):
    check(body, "sigmoid", 1.0 / (1.0 + np.exp(-LOGITS)))


@pytest.mark.parametrize("body", HARD.values(), ids=HARD)
def test_hard_sigmoids(body):
    check(body, "sigmoid", np.clip(LOGITS / 6.0 + 0.5, 0.0, 1.0))


@pytest.mark.parametrize(("body", "operator"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_no_head_that_we_know_is_not_guessed(body, operator):
    assert find_head(graph_of(body), "p") == Head(None, operator, rounded=False)


def test_a_softmax_behind_quantisers_is_one_softmax():
    body = """s = Softmax<axis=1>(z) q = QuantizeLinear(s, step, origin)
        p = DequantizeLinear(q, step, origin)"""
    assert find_head(graph_of(body), "p") == Head("probabilities", "Softmax", rounded=True)
    check(body, "probabilities", softmax(LOGITS), 1 / 256)


def test_one_of_two_scores_and_its_opposite_are_probabilities():
    graph = graph_of("s = Sigmoid(z) n = Sub(one, s) p = Concat<axis=1>(n, s)")
    assert find_head(graph, "p") == Head("probabilities", "Sigmoid", rounded=False)


def test_pooled_activations_are_logits():
    graph = graph_of("a = Reshape(z, four) r = Relu(a) b = GlobalAveragePool(r) p = Flatten(b)")
    assert find_head(graph, "p").kind == "logits"


def test_a_doubling_graph_takes_no_time():
    body = " ".join(f"a{i + 1} = Add(a{i}, a{i})" for i in range(50))
    assert find_head(graph_of(f"a0 = Identity(z) {body} p = Identity(a50)"), "p").kind == "logits"
    body = " ".join(f"a{i + 1} = Add(a{i}, a{i})" for i in range(5000))
    graph = graph_of(f"a0 = Identity(z) {body} p = Identity(a5000)")
    assert find_head(graph, "p") == Head(None, "Add", rounded=False)


def test_a_circle_ends():
    graph = graph_of("a = Identity(b) b = Identity(a) p = Sub(z, b)")
    assert find_head(graph, "p").kind is None


HARMLESS = (
    "{new} = Identity({old})",
    "{new} = Cast<to=11>({old})",
    "{new} = Cast<to=10>({old})",
    "{new} = Reshape({old}, flat)",
    "{new} = Unsqueeze({old}, last)",
    "{new} = Flatten({old})",
    "{new} = Dropout({old})",
    "{new} = Transpose({old})",
    "{new} = Slice({old}, from, to, last)",
    "{new} = Gather<axis=1>({old}, order)",
    "{new} = Mul({old}, one)",
    "{new} = Add(zero, {old})",
    "{new} = Clip({old}, low, high)",
    "{new}q = QuantizeLinear({old}, step, origin) {new} = DequantizeLinear({new}q, step, origin)",
)
HEADS = {
    "{new} = Softmax<axis=1>({old})": "probabilities",
    "{new} = LogSoftmax<axis=1>({old})": "logits",
    "{new} = Sigmoid({old})": "sigmoid",
    "{new} = Identity({old})": "logits",
}


@given(
    st.lists(st.sampled_from(HARMLESS), max_size=12),
    st.sampled_from(list(HEADS)),
    st.lists(st.sampled_from(HARMLESS), max_size=12),
)
def test_harmless_operators_change_nothing(before, head, after):
    steps = [*before, head, *after, "{new} = Identity({old})"]
    names = ["z", *(f"t{number}" for number in range(len(steps) - 1)), "p"]
    body = " ".join(
        step.format(old=old, new=new)
        for step, (old, new) in zip(steps, pairwise(names), strict=True)
    )
    assert find_head(graph_of(body), "p").kind == HEADS[head]


OPERATORS = """
    Add AveragePool BatchNormalization Cast Clip Concat Constant Div Exp Flatten Gather Gemm If
    HardSigmoid Log LogSoftmax Max Mean Min Mul Neg QuantizeLinear Reciprocal ReduceMax ReduceSum
    IsNaN Relu Reshape Sigmoid Softmax Softplus Split Sub Sum Tanh TopK Where
""".split()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPERATORS),
            st.lists(st.sampled_from("abcdefp") | st.sampled_from(["one", "six", ""]), max_size=4),
            st.lists(st.sampled_from("abcdefp"), max_size=2),
        ),
        max_size=12,
    )
)
def test_no_graph_ends_the_search_in_an_error(nodes):
    graph = graph_of("q = Identity(z)")
    graph.node.extend(helper.make_node(*each) for each in nodes)
    assert find_head(graph, "p").kind in {None, "logits", "probabilities", "sigmoid"}
