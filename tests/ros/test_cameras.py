# SPDX-License-Identifier: Apache-2.0
"""Several cameras, one engine: every camera gets its results where it expects them."""

from __future__ import annotations

import time

import pytest
from vision_msgs.msg import LabelInfo, VisionInfo

from perception_node.errors import ConfigError
from perception_node.ros.camera_topics import find_places
from perception_node.ros.qos import LATCHED
from tests.ros.harness import (
    NANOSECONDS,
    Stream,
    account,
    local_node,
    make_image,
    require_balance,
    wait_for,
)

pytestmark = pytest.mark.ros
COLORS = ("red", "green", "blue")


def topics(names) -> tuple[str, ...]:
    """Return a topic per camera."""
    return tuple(f"{name}/image" for name in names)


@pytest.mark.parametrize("number", [2, 8])
def test_results_are_in_each_cameras_namespace(start, peer, number):
    names = [f"camera{index}" for index in range(number)]
    with start(image_topics=topics(names)) as node:
        streams = [Stream(peer, f"/{name}/perception", f"{name}/image") for name in names]
        for index, stream in enumerate(streams):
            color = index % 3
            result = stream.classify(make_image(COLORS[color], 100 + index))
            assert result.results[0].class_id == str(color)
            assert result.header.frame_id == "camera_optical_frame"
        for index, stream in enumerate(streams):
            assert set(stream.stamps()) == {100 + index}, "another camera's result"
        assert node.end() == 0
        for index, name in enumerate(names):
            counts = account(node.log(), f"/{name}/image")
            require_balance(counts)
            assert counts["published"] == len(streams[index].results)


def test_one_camera_may_have_any_name(start, peer):
    with start(image_topics=("front/image_raw",)):
        stream = Stream(peer, topic="front/image_raw")
        assert stream.classify(make_image("green", 1)).results[0].class_id == "1"


def test_labels_are_announced_beside_each_cameras_results(start, peer):
    labels = [peer.collect(LabelInfo, f"/{n}/perception/label_info", LATCHED) for n in "ab"]
    infos = [peer.collect(VisionInfo, f"/{n}/perception/vision_info", LATCHED) for n in "ab"]
    with start(image_topics=topics("ab")):
        wait_for(lambda: all(labels) and all(infos), lambda: "both cameras' labels")
    assert [info[0].database_location for info in infos] == [
        "/a/perception/label_info",
        "/b/perception/label_info",
    ]


def test_a_silent_camera_does_not_hide_behind_the_other(start, peer):
    diagnostics = peer.watch()
    with start(image_topics=topics("ab"), image_timeout_s=0.3):
        stream = Stream(peer, "/b/perception", "b/image")
        diagnostics.wait_for_level("input of /a/image", 2)
        stream.classify(make_image("red", 1))
        diagnostics.wait_for_level("input of /b/image", 0)
        assert diagnostics.level("input of /a/image") == 2
        assert "NotReceived" in diagnostics.latest()["input of /a/image"].message


def test_a_camera_with_a_deadline_of_its_own(start, peer):
    diagnostics = peer.watch()
    given = {"age_reference": "stamp", "deadline_ms": 60_000, "camera_deadlines_ms": (5000, 0)}
    with start(image_topics=topics("ab"), **given) as node:
        first = Stream(peer, "/a/perception", "a/image")
        second = Stream(peer, "/b/perception", "b/image")
        second.classify(make_image("green", time.time_ns() - 6 * NANOSECONDS))
        first.camera.publish(make_image("red", time.time_ns() - 6 * NANOSECONDS))
        wait_for(
            lambda: "1" in values_of(diagnostics, "deadline of /a/image", "stale"),
            lambda: f"one stale frame, found {diagnostics.latest()}",
        )
        assert values_of(diagnostics, "deadline of /a/image", "deadline (ms)") == ["5000"]
        assert values_of(diagnostics, "deadline of /b/image", "deadline (ms)") == ["60000"]
        assert node.end() == 0
    assert not first.results


def values_of(diagnostics, task, key):
    """Return a key's value in one row, as a list that is empty without it."""
    row = diagnostics.latest().get(task)
    return [pair.value for pair in row.values if pair.key == key] if row else []


def test_cameras_that_share_a_namespace_have_results_behind_their_own_names(start, peer):
    with start(image_topics=["cam0", "cam1"]) as node:
        first = Stream(peer, "/cam0/perception", "cam0")
        second = Stream(peer, "/cam1/perception", "cam1")
        first.classify(make_image("green", 1))
        second.classify(make_image("red", 2))
        assert node.end() == 0
    assert (len(first.results), len(second.results)) == (1, 1)


@pytest.mark.parametrize("given", [["cam", "b", "cam/image"], ["a/image", "/a/image"]])
def test_cameras_whose_results_would_mix_are_refused(domain, peer, color_model, capfd, given):
    with local_node(domain, model=str(color_model), image_topics=given) as node:
        with pytest.raises(ConfigError, match="would go to the same topic"):
            find_places(node, node.config)
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        assert node._pipeline is None, "the model is freed again"
    assert "configure failed: image_topics" in capfd.readouterr().err


@pytest.mark.parametrize("topic", ["a b", "front-cam/image", "/"])
def test_a_name_that_is_none_is_one_line(domain, peer, color_model, capfd, topic):
    with local_node(domain, model=str(color_model), image_topics=[topic]):
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
    log = capfd.readouterr().err
    assert "configure failed: parameter image_topics" in log
    assert "Traceback" not in log


SWAPPED = ("-r", "a/image:=/b/image", "-r", "b/image:=/a/image")


def test_swapped_cameras_are_swapped_once(start, peer):
    with start(*SWAPPED, image_topics=topics("ab")) as node:
        first = Stream(peer, "/a/perception", "a/image")
        second = Stream(peer, "/b/perception", "b/image")
        assert first.classify(make_image("red", 1)).results[0].class_id == "0"
        assert second.classify(make_image("green", 2)).results[0].class_id == "1"
        assert "waiting for images on /b/image, /a/image" in node.log()
