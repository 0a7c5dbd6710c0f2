# SPDX-License-Identifier: Apache-2.0
"""Bars are for terminals; each of these tests fails with rich 11 if rich's own means are used."""

from __future__ import annotations

import io

import pytest

from perception_node.terminal.console import make_console
from perception_node.terminal.progress import Redrawn, show_phases, show_work, track


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_elsewhere_nothing_is_printed_not_even_an_empty_line(capfd):
    with show_phases() as report:
        report("evaluating", 1, 3)
    with show_work("importing") as say:
        say("building", 0.5)
    assert list(track(iter("abc"), "replaying", 3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_how_many_are_done(capfd):
    with show_phases() as report:
        report("evaluating [x]", 12, 345)
        report("judging", 1, 2)
    shown = capfd.readouterr().err
    assert "evaluating [x]" in shown
    assert "12/345" in shown
    assert "judging" in shown


@pytest.mark.usefixtures("terminal")
def test_items_that_cannot_be_counted_have_a_bar(capfd):
    assert list(track(iter("abcd"), "replaying", 4)) == ["a", "b", "c", "d"]
    assert "replaying" in capfd.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_work_is_shown_from_its_beginning(capfd):
    with show_work("importing [m].zip"):
        pass
    assert "importing [m].zip" in capfd.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_an_error_ends_the_bar(capfd):
    def items():
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(track(items(), "replaying", 2))
    assert capfd.readouterr().err.count("\x1b[?25h") == 1  # the cursor is there again


class View(Redrawn):
    def render(self):
        return "now"

    def leave(self):
        self.console.print("at last")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_view_is_drawn_on_a_terminal_alone_and_leaves_its_last_words(is_terminal):
    console = make_console(file=io.StringIO(), force_terminal=is_terminal)
    with View(console):
        pass
    written = console.file.getvalue()
    assert ("now" in written) == is_terminal
    assert written.endswith("at last\n")
