# SPDX-License-Identifier: Apache-2.0
"""Bars are for terminals; each of these tests fails with rich 11 if rich's own means are used."""

from __future__ import annotations

import pytest
from rich.progress import BarColumn, TextColumn

from perception_node.terminal.progress import count_column, show_progress, track


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_elsewhere_nothing_is_printed_not_even_an_empty_line(capfd):
    with show_progress(TextColumn("working"), BarColumn(), count_column()) as bar:
        task = bar.add_task("", total=3)
        bar.advance(task)
    assert list(track(iter("abc"), "replaying", 3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_how_many_are_done(capfd):
    with show_progress(TextColumn("{task.description}"), count_column()) as bar:
        bar.update(bar.add_task("evaluating", total=345), completed=12)
    assert "12/345" in capfd.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_items_that_cannot_be_counted_have_a_bar(capfd):
    assert list(track(iter("abcd"), "replaying", 4)) == ["a", "b", "c", "d"]
    assert "replaying" in capfd.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_an_error_ends_the_bar(capfd):
    def items():
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(track(items(), "replaying", 2))
    assert capfd.readouterr().err.count("\x1b[?25h") == 1  # the cursor is there again
