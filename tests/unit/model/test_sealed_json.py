# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.model.sealed_json import BrokenSeal, check_seal, parse, seal

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def unseal(content):
    data = parse(content)
    check_seal(content, data)
    return data


@given(OBJECTS)
def test_what_was_sealed_comes_back_with_its_digest(data):
    found = unseal(seal(data))
    assert {**found, "sha256": 0} == {**data, "sha256": 0}
    assert seal(found) == seal(data)


@given(OBJECTS, st.integers(0, 1 << 16), st.integers(1, 255))
def test_no_changed_byte_is_accepted(data, place, flip):
    content = bytearray(seal(data))
    content[place % len(content)] ^= flip
    with pytest.raises(ValueError, match=r"sha256|codec|JSON|Expecting|line \d"):
        unseal(bytes(content))


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b'"text"', b"null", b"{}", b'{"a": 1}\n'])
def test_other_json_has_no_seal(content):
    with pytest.raises(ValueError, match=r"Expecting value|sha256"):
        unseal(content)


def test_another_spelling_of_the_same_data_is_no_seal():
    content = seal({"a": 1, "b": "é"})
    for changed in (
        json.dumps(json.loads(content)).encode(),
        content.rstrip(),
        content + b"\n",
        content.replace("é".encode(), b"\\u00e9"),
        content.replace(b'"a": 1', b'"a": 1, "a": 1'),
    ):
        assert json.loads(changed) == json.loads(content)
        with pytest.raises(BrokenSeal, match="sha256"):
            unseal(changed)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_not_sealed(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal({"a": number})


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_constants_that_are_no_json_are_refused(number):
    with pytest.raises(ValueError, match="is not a number in JSON"):
        parse(b'{"a": ' + number + b"}")


@pytest.mark.parametrize("depth", [600, 3000, 200_000])
def test_json_that_is_nested_too_deeply_is_refused(depth):
    with pytest.raises(ValueError, match=r"recursion|sha256"):
        unseal(b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
