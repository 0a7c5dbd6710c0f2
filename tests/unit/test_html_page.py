# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.html_page import render, to_page

jinja2 = pytest.importorskip("jinja2")


def test_a_page_is_whole_and_needs_nothing_else():
    page = to_page("<b>\x1b[2J", "<h1>it</h1>")
    assert page.startswith("<!doctype html>")
    assert r"<title>&lt;b&gt;\x1b[2J</title>" in page
    assert "<main>\n<h1>it</h1>\n</main>" in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page
    assert "url(" not in page


def test_a_template_shows_text_from_outside_and_lacks_nothing(tmp_path):
    template = tmp_path / "a.j2"
    template.write_text("<p>{{ text }}</p>")
    assert render(template, text="<i>\u202e") == r"<p>&lt;i&gt;\u202e</p>"
    with pytest.raises(jinja2.UndefinedError):
        render(template)
