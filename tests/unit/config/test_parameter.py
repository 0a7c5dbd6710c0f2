# SPDX-License-Identifier: Apache-2.0
# Annotations are not postponed: a dataclass would look for its module, which pytest 6 hides.

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from perception_node.config.parameter import Parameter, Section, When, parameter, parameters_of
from perception_node.errors import ConfigError

Letter = Literal["a", "b"]


@dataclass(frozen=True)
class Example(Section):
    flag: bool = parameter(default=False, description="A flag.")
    number: int = parameter(5, "A number.", limits=(1, 9), when=When.LIVE)
    share: float = parameter(0.5, "A share.", limits=(0.0, 1.0))
    word: Letter = parameter("a", "A word.", when=When.START)
    text: str = parameter("", "A text.")
    numbers: tuple[int, ...] = parameter((1, 2), "Numbers.", limits=(0, 3))
    words: tuple[Letter, ...] = parameter(("a",), "Words.")


KNOWN = {known.name: known for known in parameters_of(Example)}


def test_a_field_has_its_default_and_is_described():
    assert Example() == Example(False, 5, 0.5, "a", "", (1, 2), ("a",))
    assert KNOWN["number"] == Parameter("number", 5, (), "A number.", (1, 9), When.LIVE)
    assert KNOWN["word"] == Parameter("word", "a", ("a", "b"), "A word.", None, When.START)
    assert KNOWN["words"].choices == ("a", "b")
    assert KNOWN["text"].when is When.UNCONFIGURED


def test_when_in_words():
    assert [when.value for when in When] == ["any time", "while unconfigured", "at start"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flag", True),
        ("number", 1),
        ("number", 9),
        ("share", 0.0),
        ("share", 1.0),
        ("word", "b"),
        ("text", "anything"),
        ("numbers", ()),
        ("numbers", (0, 3, 3)),
        ("words", ("b", "a", "b")),
    ],
)
def test_what_is_allowed(name, value):
    assert getattr(Example(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flag", 1, "parameter flag must be of type bool, found 1"),
        ("number", True, "parameter number must be of type int, found True"),
        ("number", 5.0, "parameter number must be of type int, found 5.0"),
        ("number", None, "parameter number must be of type int, found None"),
        ("number", 0, "parameter number must be 1 to 9, found 0"),
        ("number", 10, "parameter number must be 1 to 9, found 10"),
        ("share", 1, "parameter share must be of type float, found 1"),
        ("share", 1.1, "parameter share must be 0.0 to 1.0, found 1.1"),
        ("share", math.nan, "parameter share must be 0.0 to 1.0, found NaN"),
        ("share", math.inf, "parameter share must be 0.0 to 1.0, found inf"),
        ("word", "c", "parameter word must be one of a, b, found 'c'"),
        ("text", b"raw", "parameter text must be of type str, found b'raw'"),
        ("numbers", 1, "parameter numbers must be of type list, found 1"),
        ("numbers", [1], "parameter numbers must be of type list, found [1]"),
        ("numbers", (1, 4), "parameter numbers must be 0 to 3, found 4"),
        ("numbers", (1, True), "parameter numbers must hold only ints, found True"),
        ("words", ("a", 1), "parameter words must hold only strs, found 1"),
        ("words", ("a", "c"), "parameter words must be one of a, b, found 'c'"),
    ],
)
def test_what_is_not(name, value, message):
    with pytest.raises(ConfigError) as caught:
        Example(**{name: value})
    assert str(caught.value) == message
