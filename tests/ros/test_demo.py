# SPDX-License-Identifier: Apache-2.0
"""``perception demo``: what a newcomer runs first, and whether its verdict can be bad."""

from __future__ import annotations

import json
import shutil

import cv2
import pytest

from perception_node.cli import EXIT_CHECK_FAILED, EXIT_OK, demo, main
from perception_node.system.resources import SAMPLE_BAG, find_resource
from tests.ros.harness import start_cli

pytestmark = pytest.mark.ros


@pytest.mark.alone  # on busy cores frames are dropped, and the demo rightly says BAD
@pytest.mark.parametrize(("transport", "frames"), [("raw", 8), ("compressed", 100)])
def test_demo_says_what_it_did(domain, tmp_path, transport, frames):
    picture = tmp_path / "pictures" / "best.png"
    arguments = ("--transport", transport, "--rate", 2, "--picture", picture)
    with start_cli(domain, "demo", *arguments) as program:
        code = program.process.wait(60)
        output = program.log()
    assert code == EXIT_OK, output
    assert "ONNX Runtime" in output
    assert f"{frames} sent" in output
    assert f"{frames} received" in output
    assert "age  p50 " in output
    for photo in ("chelsea", "coffee", "camera", "rocket"):
        assert f"good  {photo}" in output
    assert "BAD" not in output
    assert cv2.imread(str(picture)).shape == (480, 640, 3)


def test_demo_fails_where_the_labels_are_wrong(domain, tmp_path, monkeypatch, capsys):
    sample = tmp_path / "photos"
    shutil.copytree(find_resource(SAMPLE_BAG), sample)
    expected = json.loads((sample / "expected.json").read_bytes())
    expected[0]["accepted"] = ["zebra"]
    (sample / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    monkeypatch.setattr(demo, "find_resource", lambda _: sample)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    picture = tmp_path / "best.png"
    arguments = ["--transport", "raw", "--rate", "5", "--picture", str(picture)]
    assert main(["demo", *arguments]) == EXIT_CHECK_FAILED
    output = capsys.readouterr().out
    assert "BAD  chelsea: 0 of 2" in output
    assert "good  coffee" in output
    assert picture.is_file()
