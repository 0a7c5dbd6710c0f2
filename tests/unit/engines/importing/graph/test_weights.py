# SPDX-License-Identifier: Apache-2.0
"""A model is split and joined again without a change; what it refers to is checked."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.graph.weights import (
    LARGE,
    WEIGHTS,
    join_model,
    map_file,
    split_model,
)
from perception_node.model.onnx_tensor import DamagedOnnx, RefusedOnnx

LIMIT = 1 << 30


def weight(name: str, count: int, kind=np.float32) -> TensorProto:
    values = np.random.default_rng(count).integers(0, 256, count * np.dtype(kind).itemsize)
    tensor = numpy_helper.from_array(np.frombuffer(values.astype(np.uint8), kind), name)
    tensor.doc_string = "behind the data"
    return tensor


def model_of(*weights: TensorProto, constant: TensorProto | None = None) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    if constant is not None:
        nodes.append(helper.make_node("Constant", [], ["c"], value=constant))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *ends, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def serialize(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def split(content: bytes, beside=None) -> tuple[bytes, bytes]:
    file = io.BytesIO()
    return split_model(content, beside or {}, file), file.getvalue()


def move(tensor: TensorProto, location: str, offset: int | None = None, *, length: bool = False):
    """Let a tensor say that its data lie elsewhere, and return them."""
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": location}
    place |= {} if offset is None else {"offset": str(offset)}
    place |= {"length": str(len(data))} if length else {}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    return data


COUNTS = {"small": (3, 100), "large": (LARGE // 4, 7, LARGE // 4 + 1), "none": ()}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_a_split_model_becomes_the_same_file_again(counts, tmp_path):
    content = serialize(model_of(*(weight(f"w{n}", n) for n in counts), constant=weight("c", 9)))
    graph, weights = split(content)
    large = 4 * sum(count for count in counts if count >= LARGE // 4)
    assert len(graph) <= len(content) - large + 300
    assert len(weights) >= large
    (tmp_path / WEIGHTS).write_bytes(weights)
    assert b"".join(join_model(graph, tmp_path / WEIGHTS, LIMIT)) == content
    parsed = serialize(onnx.load_model_from_string(graph))
    assert b"".join(join_model(parsed, tmp_path / WEIGHTS, LIMIT)) == content


def test_weights_beside_the_model_come_in_wherever_they_are_used(tmp_path):
    """Large ones and small ones, with and without offset and length, in the graph and in nodes."""
    large, small, constant = weight("l", LARGE // 4), weight("s", 3), weight("c", 5, np.int64)
    content = serialize(model_of(large, small, constant=constant))
    in_one = move(large, "a.data", 0, length=True) + move(small, "a.data", LARGE, length=True)
    beside = {"a.data": in_one, "c": move(constant, "c")}
    moved = model_of(large, small, constant=constant)
    graph, weights = split(serialize(moved), beside)
    assert weights == in_one[:LARGE]
    (tmp_path / WEIGHTS).write_bytes(weights)
    assert b"".join(join_model(graph, tmp_path / WEIGHTS, LIMIT)) == content


def test_the_weights_begin_where_processors_load_at_once():
    weights = [weight("a", LARGE // 4 + 1), weight("b", LARGE // 4)]
    graph, _ = split(serialize(model_of(*weights)))
    for tensor in onnx.load_model_from_string(graph).graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        assert int(places["offset"]) % 64 == 0
        assert places["location"] == WEIGHTS


@pytest.mark.parametrize(
    ("location", "offset", "words"),
    [
        ("elsewhere", 0, "lie in another file"),
        (WEIGHTS, 1, "end beyond the end of 'weights'"),
        (WEIGHTS, 10**14, "end beyond the end of 'weights'"),
    ],
)
def test_only_what_is_in_the_file_can_be_referred_to(location, offset, words, tmp_path):
    tensor = weight("w", 4)
    (tmp_path / WEIGHTS).write_bytes(move(tensor, location, offset))
    with pytest.raises(RefusedOnnx, match=words):
        join_model(serialize(model_of(tensor)), tmp_path / WEIGHTS, LIMIT)


def test_a_model_may_not_become_larger_than_one_file_can_be(tmp_path):
    """By referring to the same weights often, a small graph could."""
    (tmp_path / WEIGHTS).write_bytes(bytes(4000))
    tensors = [weight(f"w{number}", 1000) for number in range(100)]
    for tensor in tensors:
        move(tensor, WEIGHTS)
    with pytest.raises(RefusedOnnx, match=r"4\d{5} bytes are more than the 400000"):
        join_model(serialize(model_of(*tensors)), tmp_path / WEIGHTS, 400_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"location": ""}, "cannot be found"),
        ({"offset": "-1"}, "is no number"),
        ({"offset": "1e3"}, "is no number"),
        ({"length": "9" * 16}, "is no number"),
        ({"length": "15"}, r"state \[4\] and 15 bytes"),
        ({"location": "x" * 10_000}, "more than 10000 bytes say"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(change, words):
    tensor = weight("w", 4)
    data = move(tensor, "w", 0, length=True)
    for entry in tensor.external_data:
        entry.value = change.get(entry.key, entry.value)
    with pytest.raises(RefusedOnnx, match=words):
        split(serialize(model_of(tensor)), {"w": data})


SAMPLE = serialize(model_of(weight("w", 4), weight("l", LARGE // 4), constant=weight("c", 2)))


@given(st.integers(0, len(SAMPLE) - LARGE - 1), st.binary(max_size=6), st.integers(0, 6))
def test_damage_is_refused_or_passed_on(place, new, old):
    content = SAMPLE[:place] + new + SAMPLE[place + old :]
    try:
        split(content)
    except (DamagedOnnx, RefusedOnnx) as error:
        assert str(error).isprintable()


def test_an_empty_file_can_be_mapped(tmp_path):
    (tmp_path / "empty").touch()
    assert map_file(tmp_path / "empty") == b""
