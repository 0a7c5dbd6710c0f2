# SPDX-License-Identifier: Apache-2.0
"""What a TorchScript archive tells of itself, in this process; ``tests/faults`` confines it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import ConversionError
from tests.import_builders import script, small_module, torch, trace

PATH = Path("model.zip")


@pytest.fixture
def facts():
    torch()
    return import_module("perception_node.engines.importing.export.script_facts")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ([], None),
        (None, None),
        ("ab", None),
        ([1, 2], None),
        ({"a": 1}, None),
    ],
)
def test_labels_are_a_list_of_names(facts, labels, found):
    assert facts.read_labels(SimpleNamespace(labels=labels)) == found
    assert facts.read_labels(SimpleNamespace()) is None


def read(facts, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model").write_bytes(content)
    return facts.perform(PATH, {})[0]


def test_a_scripted_module_has_no_example(facts, tmp_path, monkeypatch):
    found = read(facts, script(small_module()), tmp_path, monkeypatch)
    assert found == {"labels": ["red", "green", "blue"], "traced": False, "size": None}


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 3, 26, 30), [26, 30]), ((2, 3, 8, 9), [8, 9]), ((1, 4, 8, 8), None)]
)
def test_a_traced_module_has_the_size_of_its_example(facts, tmp_path, monkeypatch, shape, size):
    found = read(facts, trace(small_module(None), torch().zeros(shape)), tmp_path, monkeypatch)
    assert found == {"labels": None, "traced": True, "size": size}


def test_what_pytorch_cannot_load_is_refused(facts, tmp_path, monkeypatch):
    with pytest.raises(ConversionError, match="PyTorch cannot load it: "):
        read(facts, b"no archive", tmp_path, monkeypatch)


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


STORED, NO_OFFSET = b"NQ", b"K\x00"
SHAPE = b"(K\x01K\x03M\x04\x01K\x20t"  # 1, 3, 260, 32


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (pickled(STORED, NO_OFFSET, SHAPE), [260, 32]),
        (pickled(STORED, b"q\x01", NO_OFFSET, SHAPE), [260, 32]),
        (pickled(STORED, NO_OFFSET, SHAPE, STORED, NO_OFFSET, SHAPE), None),
        (pickled(STORED, NO_OFFSET, b"(K\x01K\x03t"), None),
        (pickled(STORED, NO_OFFSET, b"(K\x01K\x03K\x09K\x09K\x09t"), None),
        (pickled(STORED, NO_OFFSET, b"(K\x01K\x01K\x09K\x09t"), None),
        (pickled(STORED, NO_OFFSET), None),
        (pickled(), None),
        (b"cos\nsystem\n", None),
    ],
)
def test_a_size_is_read_where_the_example_is_one_image(facts, content, size):
    assert facts.find_size(content) == size


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([STORED, NO_OFFSET, SHAPE, b"q\x01", b"t", b"c"])).map(b"".join),
    )
)
def test_no_pickle_is_an_error_of_ours(content):
    torch()
    facts = import_module("perception_node.engines.importing.export.script_facts")
    size = facts.find_size(content)
    assert size is None or len(size) == 2
