# SPDX-License-Identifier: Apache-2.0
"""What no parser gets to see: weights in other files, tensors that state more than they hold."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.calibration.quantization import prepare
from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.onnxruntime import session
from perception_node.engines.onnxruntime.session import folds_too_much, open_session
from perception_node.errors import EngineBuildError, ModelFormatError
from perception_node.model.bundle import MODEL, load_bundle, write_bundle
from perception_node.model.onnx_file import MAX_DEPTH, look_through
from perception_node.model.onnx_tensor import DamagedOnnx, RefusedOnnx
from tests.builders import ROOT, color_network, make_bundle
from tests.hostile_builders import constant, external, functions, graph, node
from tests.memory import peak_mib

ELSEWHERE = "lie in another file"


def away(location="weights.bin") -> TensorProto:
    """Return weights that lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[48, 5])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def half_away() -> TensorProto:
    """Return weights that name another file and do not say that they lie there."""
    tensor = numpy_helper.from_array(np.zeros((48, 5), np.float32), "w")
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def with_tensor(place: str, tensor: TensorProto) -> bytes:
    """Return a model with a tensor somewhere: as weights, in an attribute, in a branch, ..."""
    inner = helper.make_graph([], "inner", [], [], [tensor])
    in_constant = helper.make_node("Constant", [], ["w"], value=tensor)
    model = onnx.load_model_from_string(graph(node("Flatten", ["image"])))
    if place == "weights":
        model.graph.initializer.append(tensor)
    elif place == "constant":
        model.graph.node.append(in_constant)
    elif place == "tensors":
        attribute = onnx.AttributeProto(name="many", type=onnx.AttributeProto.TENSORS)
        attribute.tensors.append(tensor)
        model.graph.node[0].attribute.append(attribute)
    elif place == "branch":
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner))
    elif place == "branch in a branch":
        branch = helper.make_node("If", ["x"], ["y"], then_branch=inner)
        outer = helper.make_graph([branch], "outer", [], [])
        model.graph.node.append(helper.make_node("Loop", ["x"], ["y"], body=outer))
    elif place == "graphs":
        attribute = onnx.AttributeProto(name="many", type=onnx.AttributeProto.GRAPHS)
        attribute.graphs.append(inner)
        model.graph.node[0].attribute.append(attribute)
    elif place == "function":
        made = helper.make_function("f", "f", ["x"], ["y"], [in_constant], model.opset_import)
        model.functions.append(made)
    elif place == "default of a function":
        made = helper.make_function("f", "f", ["x"], ["y"], [], model.opset_import)
        made.attribute_proto.append(helper.make_attribute("a", tensor))
        model.functions.append(made)
    else:
        training = model.training_info.add()
        getattr(training, place).CopyFrom(inner)
    return model.SerializeToString()


PLACES = ["weights", "constant", "tensors", "branch", "branch in a branch", "graphs"]
PLACES += ["function", "default of a function", "initialization", "algorithm"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tensor", [away(), half_away()], ids=["away", "half away"])
def test_weights_in_other_files_are_found_wherever_they_are(place, tensor):
    with pytest.raises(RefusedOnnx, match=ELSEWHERE):
        look_through(with_tensor(place, tensor))


@pytest.mark.parametrize("place", PLACES)
def test_tensors_that_state_more_than_they_hold_are_found_wherever_they_are(place):
    for dims in ([1 << 40], [3, 1 << 20], [1 << 62, 1 << 62]):
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(12))
        with pytest.raises(RefusedOnnx, match="holds less"):
            look_through(with_tensor(place, tensor))


def test_a_message_in_two_parts_is_one():
    """Protobuf joins them: the location may come in a second part of the same weights."""
    whole = with_tensor("constant", numpy_helper.from_array(np.zeros(3, np.float32), "w"))
    model = onnx.load_model_from_string(whole)
    second = onnx.ModelProto()
    second.graph.initializer.append(away())
    with pytest.raises(RefusedOnnx, match=ELSEWHERE):
        look_through(model.SerializeToString() + second.SerializeToString())


@pytest.mark.parametrize("kind", [k for k in TensorProto.DataType.values() if k])
def test_tensors_of_every_type_are_let_through(kind):
    for values in ([1, 0, 1], [0], []):
        made = [b"x"] * len(values) if kind == TensorProto.STRING else values
        tensor = helper.make_tensor("w", kind, [len(values)], made)
        seen = look_through(with_tensor("weights", tensor))
        assert seen.weights == {"w": len(values)}


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8, np.int64, np.bool_, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_raw_weights_are_let_through(kind, shape):
    look_through(with_tensor("weights", numpy_helper.from_array(np.zeros(shape, kind), "w")))


def sparse() -> bytes:
    values = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model = onnx.load_model_from_string(graph(node("Flatten", ["image"])))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 30]))
    return model.SerializeToString()


def with_note(key: str) -> bytes:
    model = onnx.load_model_from_string(graph(node("Flatten", ["image"])))
    helper.set_model_props(model, {key: "{}"})
    return model.SerializeToString()


def deep() -> bytes:
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(MAX_DEPTH // 3 + 1):
        inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], b=inner)], "g", [], [])
    return helper.make_model(inner).SerializeToString()


REFUSED = {
    "sparse weights": (sparse, "sparse"),
    "settings for ONNX Runtime": (lambda: with_note("ort_config"), "ort_config"),
    "a graph that lies elsewhere": (
        lambda: graph(node("EPContext", ["image"], ep_cache_context="x.bin", embed_mode=0)),
        "EPContext reads another file",
    ),
    "ONNX Runtime's own format": (lambda: b"\x10\0\0\0ORTM" + bytes(50), "own format"),
    "graphs in graphs": (deep, "deep"),
    "many parts": (lambda: b"\x3a\xa0\x9c\x01" + b"\x0a\x00" * 10_000, "parts"),
    "an axis below 0": (
        lambda: with_tensor("weights", TensorProto(name="w", data_type=1, dims=[-1])),
        "below 0",
    ),
    "many axes": (
        lambda: with_tensor("weights", TensorProto(name="w", data_type=1, dims=[1] * 100)),
        "axes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_model_needs_is_refused(name, monkeypatch):
    monkeypatch.setattr("perception_node.model.onnx_file.MAX_PARTS", 5_000)
    make, words = REFUSED[name]
    with pytest.raises(RefusedOnnx, match=words):
        look_through(make())


def test_other_notes_are_let_through():
    look_through(with_note("names"))


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x0b\x0c", b"\x3a\x05ab", b"text\n" * 9])
def test_what_is_no_onnx_is_said_to_be_none(content):
    with pytest.raises(DamagedOnnx, match="no ONNX"):
        look_through(content)


def test_damaged_files_give_no_other_error():
    content, random = graph(node("Flatten", ["image"])), np.random.default_rng(1)
    for _ in range(3000):
        changed = bytearray(content)
        changed[random.integers(len(changed))] = random.integers(256)
        with suppress(DamagedOnnx, RefusedOnnx):
            look_through(bytes(changed[: random.integers(1, len(changed) + 1)]))


# Whoever gives a model to a parser


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the other file."""
    np.full(240, 7, np.float32).tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("load", [open_session, to_half_precision, prepare])
@pytest.mark.usefixtures("here")
def test_weights_in_the_current_folder_are_never_loaded(load):
    with pytest.raises((RefusedOnnx, EngineBuildError), match=ELSEWHERE):
        load(external("weights.bin"))


@pytest.mark.parametrize("make", [lambda: external("weights.bin"), lambda: functions(3)])
def test_no_file_of_a_bundle_takes_weights_from_another(here, make):
    """The runtime, calibration, building and inspection all read a bundle's models in this way."""
    folder = make_bundle(here / "bundle")
    manifest = load_bundle(folder).manifest
    (folder / "model.int8.onnx").write_bytes(make())
    (folder / MODEL).write_bytes(make())
    write_bundle(folder, manifest)
    bundle = load_bundle(folder)
    for name in (MODEL, "model.int8.onnx"):
        with pytest.raises(ModelFormatError, match=f"{ELSEWHERE}|functions of its own"):
            bundle.read(name)


# Memory


def growing(elements: int, count: int = 1) -> bytes:
    """Return a small model that makes constants of so many elements."""
    made = [node("ConstantOfShape", ["shape"], [f"many{n}"]) for n in range(count)]
    names = [f"many{n}" for n in range(count)]
    nodes = [
        *made,
        node("Sum", names, ["together"]),
        node("ReduceMean", ["together"], ["mean"], keepdims=0),
        node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        node("Add", ["means", "mean"]),
    ]
    return graph(*nodes, weights=[constant("shape", [elements])], outputs=3)


def doubling(times: int) -> bytes:
    """Return a model whose constant is joined with itself again and again."""
    joined = [node("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(times)]
    nodes = [
        *joined,
        node("ReduceMean", [f"c{times}"], ["mean"], keepdims=0),
        node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        node("Add", ["means", "mean"]),
    ]
    return graph(*nodes, weights=[constant("c0", [1.0], np.float32)], outputs=3)


LIMIT_MIB = 1400
RUN = """
session = open_session(Path(sys.argv[1]).read_bytes())
session.run(None, {"image": np.zeros((1, 3, 4, 4), np.float32)})
"""
IMPORTS = """
from pathlib import Path
import numpy as np
from perception_node.calibration.quantization import prepare
from perception_node.engines.onnxruntime.session import open_session
"""
GREEDY = {
    "3.6 GB at once": lambda: growing(900_000_000),
    "many of less": lambda: growing(200_000_000, 4),
    "doubling": lambda: doubling(30),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GREEDY)
@pytest.mark.parametrize("program", [RUN, "prepare(Path(sys.argv[1]).read_bytes())"])
def test_a_small_model_takes_no_large_memory(tmp_path, name, program):
    content = GREEDY[name]()
    assert len(content) < 5000
    (tmp_path / MODEL).write_bytes(content)
    peak, error = peak_mib(IMPORTS, program, tmp_path / MODEL)
    assert "Available memory of" in error, error
    assert peak < LIMIT_MIB


@pytest.mark.slow
def test_a_model_of_many_small_parts_is_refused_before_it_is_parsed(tmp_path):
    parts = b"\x0a\x00" * 10_000_000  # a node each
    size = len(parts)
    length = bytes(size >> bits & 127 | (128 if bits < 21 else 0) for bits in (0, 7, 14, 21))
    (tmp_path / MODEL).write_bytes(b"\x3a" + length + parts)
    peak, error = peak_mib(IMPORTS, "prepare(Path(sys.argv[1]).read_bytes())", tmp_path / MODEL)
    assert "parts" in error
    assert peak < 300


def test_constants_of_usual_models_are_computed_while_loading():
    for content in (color_network(), (ROOT / "models/efficientnet_lite0/model.onnx").read_bytes()):
        assert not folds_too_much(look_through(content))
    scaled = [node("Mul", ["w", "two"], ["v"]), node("Flatten", ["image"], ["row"])]
    weights = [constant("w", np.ones((48, 5)), np.float32), constant("two", 2.0, np.float32)]
    assert not folds_too_much(
        look_through(graph(*scaled, node("MatMul", ["row", "v"]), weights=weights))
    )
    assert folds_too_much(look_through(growing(10**9)))
    assert folds_too_much(look_through(doubling(30)))


def test_sessions_have_limits_of_their_own():
    """A model that takes more than its share fails, and one beside it goes on."""
    image = np.zeros((1, 3, 4, 4), np.float32)
    good = open_session(growing(1000))
    greedy = open_session(growing(10**9))
    with pytest.raises(Exception, match="Available memory"):
        greedy.run(None, {"image": image})
    assert good.run(None, {"image": image})[0].shape == (1, 3)


def test_a_session_that_is_never_made_keeps_no_other_from_being_made(monkeypatch):
    monkeypatch.setattr(session, "LONGEST_WAIT_S", 0.01)
    with session._making:
        made = open_session(growing(1000))
    assert made.run(None, {"image": np.zeros((1, 3, 4, 4), np.float32)})[0].shape == (1, 3)
