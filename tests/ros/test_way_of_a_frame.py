# SPDX-License-Identifier: Apache-2.0
"""The files that a raw image passes on the CPU are few, and are those in ARCHITECTURE.md."""

from __future__ import annotations

import itertools
import re
import threading
import time
from pathlib import Path

import pytest
from rclpy.qos import qos_profile_sensor_data

import perception_node
from tests.builders import ROOT
from tests.ros.harness import Stream, local_node, make_image

pytestmark = pytest.mark.ros
PACKAGE = Path(perception_node.__file__).parent
MOST_FILES = 12
ENGINE = "perception-engine"  # the thread that waits for images; others only look now and then
RCLPY = "rclpy"
WAIT, PUBLISH = ("ros/image_source.py", "wait"), (RCLPY, "publish")
RELIABLE = 10
ROW = re.compile(r"^\| `(\S+\.py)` \| `?([^|`]+)`? \|", re.MULTILINE)


def written_down():
    """Return the files of ARCHITECTURE.md's table, in its order, with their threads."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.partition("## The way of one frame\n")[2].partition("\n## ")[0]
    way, _, after = section.partition("After the result is out")
    return ROW.findall(way), ROW.findall(after)


class Trail:
    """Notes which functions of ours, and of rclpy's publishers, are called by which thread."""

    def __init__(self):
        self.calls = []
        self.is_on = False

    def note(self, frame, event, _argument):
        thread = threading.current_thread().name
        if not self.is_on or event != "call" or thread != ENGINE:
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.startswith(f"{PACKAGE}/"):
            self.calls.append((file.removeprefix(f"{PACKAGE}/"), name, thread))
        elif "rclpy" in file and (RCLPY, name) == PUBLISH:
            self.calls.append((*PUBLISH, thread))

    def frame(self):
        """Return the calls of a frame, from one wait for images to the next, cut at publishing."""
        waits = [i for i, call in enumerate(self.calls) if call[:2] == WAIT]
        between = [self.calls[begin:end] for begin, end in itertools.pairwise(waits)]
        kinds = [[call[:2] for call in calls] for calls in between]
        whole = next(i for i, calls in enumerate(kinds) if PUBLISH in calls)
        cut = kinds[whole].index(PUBLISH)
        return between[whole][:cut], between[whole][cut:]


@pytest.fixture
def trail():
    trail = Trail()
    threading.setprofile(trail.note)  # of threads that begin from here on
    yield trail
    threading.setprofile(None)


def files_of(calls):
    return list(dict.fromkeys((file, thread) for file, _, thread in calls if file != RCLPY))


@pytest.fixture
def follow(trail, domain, peer, color_model):
    """Return a function that follows an image, of a stream of them, through the node."""

    def classify(encoding, qos):
        parameters = {"engine": "onnxruntime", "age_reference": "stamp", "deadline_ms": 10_000}
        with local_node(domain, model=str(color_model), **parameters):
            assert peer.change("configure")
            assert peer.change("activate")
            stream = Stream(peer, qos=qos)
            for trail.is_on in (False, False, True, True, True, True):
                image = make_image("green", time.time_ns(), size=(640, 480), encoding=encoding)
                assert stream.classify(image).results[0].class_id == "1"
            trail.is_on = False
        return trail.frame()

    return classify


@pytest.mark.parametrize(
    ("encoding", "qos"), [("rgb8", RELIABLE), ("bgr8", qos_profile_sensor_data)]
)
def test_few_files_are_on_the_way_and_all_are_written_down(follow, encoding, qos):
    way, after = map(files_of, follow(encoding, qos))
    listed, listed_after = written_down()
    assert sorted(way) == sorted(listed)
    assert len(way) <= MOST_FILES
    assert sorted(set(after) - set(way)) == sorted(listed_after)
