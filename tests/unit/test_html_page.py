# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.html_page import render, to_page
from tests.browser import Visit

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


def test_every_text_can_be_read_in_both_colour_schemes(browser, tmp_path):
    words = "".join(
        f'<p class="{name}">{name}</p>'
        for name in ("quiet", "good", "bad", "warn", "ok", "failed", "ERROR", "WARN", "STALE")
    )
    verdicts = "".join(
        f'<span class="verdict {name}">{name}</span>' for name in ("good", "bad", "warn")
    )
    table = "<table><tr><th>what</th></tr><tr><td>it</td></tr></table>"
    page = tmp_path / "page.html"
    page.write_text(to_page("page", f"{verdicts}{words}<section>{words}{table}</section>"))
    with Visit(browser, page.as_uri()) as visit:
        visit.require_contrast()
