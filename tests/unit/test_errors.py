# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node import errors
from perception_node.printable import is_printable

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value)]
ERRORS = [value for value in CLASSES if issubclass(value, Exception)]


def test_every_error_is_in_the_tree_that_the_module_draws():
    for error in ERRORS:
        assert issubclass(error, errors.PerceptionError)
        assert error.__name__ in errors.__doc__


def test_every_frame_error_is_counted_under_its_own_kind():
    kinds = [error.kind for error in ERRORS if issubclass(error, errors.FrameError)]
    assert sorted(kinds).count("stamp") == 2, "a stamp that is no time, and one that is missing"
    assert len(kinds) == len(set(kinds)) + 1


@pytest.mark.parametrize(
    ("error", "problem", "advice"),
    [
        (errors.ConfigError("no"), "no", ""),
        (errors.EnvironmentLacks("no camera", "buy one"), "no camera", "buy one"),
        (errors.ModelFormatError(Path("a"), "empty", "copy it"), "a: empty", "copy it"),
        (
            errors.FrameTooLarge(3, 4, 11),
            "3x4 is more than 11 pixels",
            "raise max_image_pixels if the camera is that large",
        ),
    ],
)
def test_an_error_carries_what_is_wrong_and_what_to_do(error, problem, advice):
    assert (error.problem, error.advice) == (problem, advice)
    assert str(error) == (f"{problem}; {advice}" if advice else problem)


@given(st.text())
def test_a_quotation_is_short_and_printable(text):
    quoted = errors.quote(text)
    assert is_printable(quoted)
    assert len(quoted) <= 32 * 10 + 5


def test_a_quotation_shows_that_it_was_cut():
    assert errors.quote("x" * 32) == f"'{'x' * 32}'"
    assert errors.quote("x" * 33) == f"'{'x' * 32}...'"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.InvalidStamp(-1, 5), "header.stamp -1 s 5 ns"),
        (
            errors.UnsupportedEncoding("32FC1", "use one of: rgb8, bgr8"),
            "'32FC1' is not supported; use one of",
        ),
        (errors.FrameTooLarge(3, 4, 11), "3x4 is more than 11 pixels"),
        (errors.ModelFormatError(Path("a/b"), "missing"), "a/b: missing"),
        (errors.LabelMismatch(Path("l.txt"), 2, 3), "l.txt: 2 labels for a model with 3 classes"),
        (errors.BagError(Path("bag"), "empty"), "bag: empty"),
    ],
)
def test_messages_name_the_place_and_the_numbers(error, words):
    assert words in str(error)
