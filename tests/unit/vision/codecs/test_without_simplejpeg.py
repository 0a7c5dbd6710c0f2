# SPDX-License-Identifier: Apache-2.0
"""Where simplejpeg is not installed, as after rosdep alone: said once, not hidden."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import pytest

from perception_node.doctor import machine_findings
from perception_node.doctor.findings import OK, OPTIONAL
from perception_node.vision.codecs import jpeg
from tests.builders import ROOT, encode, smooth
from tests.hostile_images import hidden_jpeg, orientation, with_exif, with_scans

PICTURE = smooth(96, 130)
JPEG = encode(PICTURE)
RESTARTS = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
PROGRESSIVE = encode(PICTURE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
# Decodes files without the module; prints shapes and reasons.
SCRIPT = """
import json, sys
sys.modules["simplejpeg"] = None
from perception_node.vision.decode import Decoder
from perception_node.errors import FrameError
decoder, found = Decoder(1 << 24, 10_000, sys.argv[1]), []
for file in json.load(sys.stdin):
    try:
        found.append(list(decoder.decode(bytes.fromhex(file)).shape))
    except FrameError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def decode_without(*files, damaged_images="drop"):
    """Return what becomes of files, and what is written to stderr."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, damaged_images],
        input=json.dumps([file.hex() for file in files]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return json.loads(result.stdout), result.stderr


def test_images_are_decoded_and_it_is_said_once_with_the_command_that_helps():
    turned = with_exif(JPEG, orientation(6))
    found, said = decode_without(JPEG, RESTARTS, PROGRESSIVE, turned, JPEG)
    assert found == [[96, 130, 3]] * 3 + [[130, 96, 3], [96, 130, 3]]
    assert said.count("\n") == 1
    assert "damage in a JPEG is only found where its markers show it" in said
    assert "pip install simplejpeg" in said


def test_all_that_its_markers_show_is_still_refused():
    marks = [place for place in range(len(RESTARTS)) if RESTARTS[place : place + 2] == b"\xff\xd3"]
    lost = RESTARTS[: marks[0]] + RESTARTS[marks[1] :]
    half = JPEG[: len(JPEG) // 2]
    found, _ = decode_without(half, lost, hidden_jpeg(JPEG), with_scans(PROGRESSIVE, 99))
    for problem, expected in zip(
        found, ("cut short", "restart markers", "not the marker", "scans"), strict=True
    ):
        assert expected in problem


def test_where_damaged_images_are_used_nothing_is_said():
    found, said = decode_without(JPEG, damaged_images="use")
    assert (found, said) == ([[96, 130, 3]], "")


def test_the_doctor_looks_for_it(monkeypatch):
    expected = OPTIONAL if jpeg.decode_jpeg is None else OK
    assert machine_findings.check_jpeg().state == expected
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    finding = machine_findings.check_jpeg()
    assert (finding.state, finding.lacks) == (OPTIONAL, ("simplejpeg",))
    assert finding.advice.startswith("pip install simplejpeg")


@pytest.mark.skipif(jpeg.decode_jpeg is None, reason="simplejpeg is not installed")
def test_where_it_is_installed_there_is_nothing_to_say():
    assert not jpeg.why_lenient
    jpeg.tell_leniency(pytest.fail)
