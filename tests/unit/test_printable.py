# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import ConfigError, PerceptionError
from perception_node.printable import (
    MOST_CHARACTERS,
    finalize,
    is_printable,
    printable,
    printable_html,
    printable_lines,
)
from tests.foreign_text import FOREIGN, SENSIBLE, find_unprintable

ANY = st.text(st.characters())  # surrogates too


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_kind_of_foreign_text_is_shown_as_it_is(kind):
    shown = printable(FOREIGN[kind])
    assert find_unprintable(shown, newlines="") == []
    assert len(shown) <= MOST_CHARACTERS
    assert is_printable(shown)


def test_the_check_itself_finds_each_kind():
    harmless = {"markup"}
    for kind, text in FOREIGN.items():
        assert bool(find_unprintable(text, newlines="")) == (kind not in harmless), kind


@pytest.mark.parametrize("text", SENSIBLE)
def test_words_of_any_language_stay(text):
    assert printable(text) == text
    assert is_printable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("a\u202eb", r"a\u202eb"),
        ("a\udc80b", r"a\udc80b"),
        ("a\U000e0041", r"a\U000e0041"),
        ("a\u00a0b\u3000c", "a b c"),
        ("pay\u200dpal", r"pay\u200dpal"),
        (None, "None"),
    ],
)
def test_what_is_there_can_still_be_read(text, shown):
    assert printable(text) == shown


def test_of_a_long_text_both_ends_are_shown():
    shown = printable("what is wrong " + "x" * 10_000 + " what to do")
    assert shown.startswith("what is wrong x")
    assert shown.endswith("x what to do")
    assert " ... " in shown
    assert len(shown) == MOST_CHARACTERS
    assert printable("é" * 30, 10) == "éééé ... é"


@given(ANY)
def test_any_text_becomes_one_line_and_stays_as_it_is_from_then_on(text):
    shown = printable(text)
    assert find_unprintable(shown, newlines="") == []
    assert printable(shown) == shown
    shown = printable_html(text)
    ET.fromstring(f"<a b='{shown}'>{shown}</a>")


@given(ANY)
def test_lines_after_the_first_are_indented(text):
    first, *others = printable_lines(text).split("\n")
    assert find_unprintable(first) == []
    for line in others:
        assert line.startswith("  ")
        assert find_unprintable(line) == []


def test_of_very_many_lines_both_ends_are_shown():
    lines = printable_lines("\n".join(map(str, range(10_000)))).split("\n")
    assert len(lines) < 400
    assert (lines[0], lines[-1]) == ("0", "  9999")


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_error_is_one_printable_line(kind):
    for error in (PerceptionError(FOREIGN[kind]), ConfigError(f"a {FOREIGN[kind]} b")):
        assert find_unprintable(f"{error}", newlines="") == []


def test_templates_get_texts_of_any_length_and_all_else_as_it_is():
    assert finalize("a\x1b") == r"a\x1b"
    assert finalize("x" * 100_000) == "x" * 100_000, "a picture as a data URI"
    assert finalize(7) == 7
