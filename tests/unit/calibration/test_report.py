# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from perception_node.calibration.charts import Bar, bars
from perception_node.calibration.report import to_html
from perception_node.model.bundle import load_bundle, write_bundle
from tests.builders import MANIFEST
from tests.gate_builders import color_pictures, int8_bundle, int8_color_network, judge

VOID = {"meta", "img", "br", "line", "rect", "circle", "polyline"}


class Page(HTMLParser):
    """Collects tags and text; fails on a tag that is closed in the wrong place."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self._open = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self._open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return color_pictures(tmp_path_factory.mktemp("pictures") / "colors")


@pytest.fixture(scope="module")
def bad_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bad"
    return int8_bundle(folder, model=int8_color_network(order=(1, 0, 2)))


@pytest.fixture(scope="module")
def failed(bad_bundle, labelled):
    return to_html(bad_bundle, judge(bad_bundle, *labelled))


def test_the_page_is_well_formed_and_says_what_failed(failed):
    page = Page(failed)
    assert "Failed" in page.text
    assert "INT8, CPU: top-1 is 66.67 points below float32, over 1" in page.text
    assert page.tags.count("img") == 2 * 12
    assert page.tags.count("svg") == 4 + 3  # drop, flips, top-1, latency; a curve per model


def test_the_page_needs_nothing_else(failed):
    page = Page(failed)
    places = [value for name, value in page.attributes if name in {"src", "href"}]
    assert places
    assert all(value.startswith("data:image/jpeg;base64,") for value in places)
    assert not re.search(r"https?:|url\(|@import|<script", failed)
    assert "default-src 'none'" in failed


def test_classes_that_lost_are_listed(failed):
    assert "20 → 0" in Page(failed).text


def test_a_good_model_passes_and_has_no_pictures(tmp_path, labelled):
    bundle = int8_bundle(tmp_path / "good")
    page = Page(to_html(bundle, judge(bundle, *labelled)))
    assert "Passed" in page.text
    assert "img" not in page.tags


def test_without_labels_there_is_no_accuracy(bad_bundle, labelled):
    page = Page(to_html(bad_bundle, judge(bad_bundle, labelled[0])))
    assert "not labelled" in page.text
    assert "top-1" not in page.text
    assert "Answers that changed" in page.text


def test_a_model_alone_is_measured_not_judged(bad_bundle, labelled):
    evaluation = judge(bad_bundle, *labelled)
    only = {"model.onnx": evaluation.record["models"]["model.onnx"]}
    alone = replace(evaluation, record={**evaluation.record, "models": only}, flips={})
    page = Page(to_html(bad_bundle, alone))
    assert "Measured" in page.text
    assert page.tags.count("svg") == 1


def test_text_from_outside_is_escaped(tmp_path):
    pictures, truth = color_pictures(tmp_path / "pictures", 6)
    for name in list(truth):
        evil = f"<script>{name}"
        (pictures / name).rename(pictures / evil)
        truth[evil] = truth.pop(name)
    folder = tmp_path / "bad"
    int8_bundle(folder, model=int8_color_network(order=(1, 0, 2)))
    (folder / "labels.txt").write_text("<b>red\n&green\nblue\n")
    write_bundle(folder, MANIFEST)
    bundle = load_bundle(folder)
    evaluation = replace(judge(bundle, pictures, truth), warning="<i>calibrated</i>")
    html = to_html(bundle, evaluation)
    page = Page(html)
    assert "script" not in page.tags
    assert "<script>000_red.png" in page.text
    assert {"<b>red", "&green"} <= set(re.findall(r"<b>red|&green", page.text))
    assert "<i>calibrated</i>" in page.text


@pytest.mark.parametrize(
    ("value", "length"), [(-1.0, 0.0), (0.0, 0.0), (5.0, 126.0), (99.0, 252.0)]
)
def test_bars_stay_within_the_room_they_have(value, length):
    chart = bars([Bar("a", value, "text", "bad")], 10.0, "title")
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([^"]+)"', chart)]
    assert widths == [252.0, length]
