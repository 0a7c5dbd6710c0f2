# SPDX-License-Identifier: Apache-2.0
"""The node level of the benchmark, with its three processes over DDS."""

from __future__ import annotations

import os
import sys

import pytest

from perception_node.bench.camera.load import Load
from perception_node.bench.levels import node_turn
from perception_node.bench.levels.frame_join import FrameJoin
from perception_node.bench.levels.frame_records import LATENCY_STAGES
from perception_node.bench.levels.node_level import RunInterrupted, measure_node
from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.rehearsal.domain import private_domain
from perception_node.system.resources import find_resource
from tests.ros.harness import IS_NUMBERED

pytestmark = pytest.mark.ros
FEW = 60  # frames that take more processor time than one tick of the kernel's account, 10 ms
DEADLINE_MS = 2000.0  # a busy machine is no failure
SMALL = Load(width=320, height=240, frames=30, warm_up_frames=10)
NODE_STAGES = {*LATENCY_STAGES, "own code", "overhead", "transport"}
CAMERA_STAGES = {"end to end", "from schedule", "publish call"}
# A subject that announces labels, takes images, says nothing, and may end.
MUTE = """
import os, signal, sys
import rclpy
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, LabelInfo
from perception_node.ros.qos import LATCHED
from perception_node.ros.session import open_session
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
left = int(os.environ["IMAGES_LEFT"])
def on_image(_message):
    global left
    left -= 1
    if left == 0:
        print("the camera is on fire", flush=True)
        os._exit(7)
with open_session("mute", sys.argv[1:]) as node:
    node.create_subscription(Image, "image", on_image, 1)
    node.create_publisher(Classification, "/perception/classification", 1)
    node.create_publisher(LabelInfo, "/perception/label_info", LATCHED).publish(LabelInfo())
    while True:
        rclpy.spin_once(node, timeout_sec=0.1)
"""


@pytest.fixture(autouse=True)
def _own_domain(domain, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))


@pytest.fixture
def joins(monkeypatch):
    """Return the joins of all runs of a test: the frames behind the histograms."""
    made = []

    class SeenJoin(FrameJoin):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(node_turn, "FrameJoin", SeenJoin)
    return made


def test_two_cameras_are_joined_frame_by_frame(color_model, joins):
    load = Load(width=320, height=240, frames=30, warm_up_frames=10, cameras=2)
    seen = []
    parameters = {"model": str(color_model)}
    run = measure_node(load, "node", DEADLINE_MS, parameters, on_progress=seen.append)
    counts = run.counts
    assert counts["sent"] == 60
    assert counts["answered"] + sum(counts[way] for way in ("superseded", "stale", "lost")) == 60
    assert counts["answered"] > 30
    assert set(run.stages) == NODE_STAGES | CAMERA_STAGES
    assert len(run.stages["end to end"]) == len(run.stages["infer"]) == counts["answered"]
    assert (len(run.timeline.times_s), run.timeline.times_s) == (60, sorted(run.timeline.times_s))
    assert run.resources["cpu_ms_per_frame"] > 0
    assert run.resources["memory_mib"] > 1
    assert 0 <= run.resources["other_threads_ms_per_image"] < run.resources["cpu_ms_per_frame"]
    assert (seen[-1].sent, seen[-1].total) == (60, 60)
    answered = [frame for frame in joins[0].measured() if frame.received_ns]
    for frame in answered:
        stages_ns = frame.stages_ns()
        # All of the node's stages but its publish call lie within the frame's way; the call may
        # return after the result is here. Milliseconds on ~/latency have three decimals.
        inside_ns = sum(stages_ns[name] for name in LATENCY_STAGES if name != "publish")
        assert 0 < inside_ns <= stages_ns["end to end"] + 10_000
        assert sum(stages_ns[name] for name in ("wait", "own code", "infer")) == pytest.approx(
            stages_ns["end to end"] - stages_ns["transport"]
        )
        assert stages_ns["from schedule"] >= stages_ns["end to end"]


def test_overload_drops_frames_and_accounts_for_them():
    load = Load(rate_hz=800, frames=400, warm_up_frames=20, width=320, height=240)
    run = measure_node(load, "node", DEADLINE_MS, {"threads": 1})  # a real model: slower than that
    counts = run.counts
    assert counts["sent"] == 400
    assert counts["answered"] < 400
    assert counts["missed"] >= 400 - counts["answered"]
    dropped = ("superseded", "stale", "late", "malformed", "failed", "lost")
    assert sum(counts[way] for way in dropped) == 400 - counts["answered"]
    # Without numbers an image that was replaced counts as lost.
    assert counts["superseded" if IS_NUMBERED else "lost"] > 0
    assert counts["failed"] == counts["malformed"] == 0


def test_a_baseline_takes_a_bag_and_states_no_stages():
    load = Load(frames=20, warm_up_frames=5, bag=find_resource("samples/photos"))
    run = measure_node(load, "floor", DEADLINE_MS, {})
    assert set(run.stages) == CAMERA_STAGES
    assert set(run.counts) == {"sent", "answered", "missed"}
    assert run.counts["answered"] > 10
    with pytest.raises(ConfigError, match="--cameras: --baseline floor takes 1, found 2"):
        measure_node(Load(cameras=2), "floor", DEADLINE_MS, {})


def test_a_subject_that_ends_early_is_one_line(monkeypatch):
    monkeypatch.setenv("IMAGES_LEFT", "5")
    with pytest.raises(EnvironmentLacks, match="ended with code 7: the camera is on fire"):
        measure_node(SMALL, "node", DEADLINE_MS, {}, command=(sys.executable, "-c", MUTE))


def test_a_subject_that_never_answers_is_one_line_with_its_topics(monkeypatch):
    monkeypatch.setenv("IMAGES_LEFT", "0")
    monkeypatch.setattr(node_turn, "ANSWER_TIMEOUT_S", 0.5)
    with pytest.raises(EnvironmentLacks, match=r"node gave no answer") as caught:
        measure_node(SMALL, "node", DEADLINE_MS, {}, command=(sys.executable, "-c", MUTE))
    line = str(caught.value)
    assert "\n" not in line
    assert "/camera/image_raw: publishers perception_bench_camera (reliable, volatile)" in line
    assert "subscribers mute (reliable, volatile)" in line
    assert "/perception/classification: publishers mute" in line


def test_a_model_that_cannot_be_loaded_is_said_at_once():
    with pytest.raises(EnvironmentLacks, match=r"configure failed: .*nothing not found"):
        measure_node(SMALL, "node", DEADLINE_MS, {"model": "nothing"})


def test_an_interrupted_run_leaves_what_was_measured(color_model):
    def interrupt(progress):
        if progress.answered >= FEW:
            raise KeyboardInterrupt

    load = Load(width=320, height=240, frames=3000, warm_up_frames=5)
    with pytest.raises(RunInterrupted) as caught:
        measure_node(
            load,
            "node",
            DEADLINE_MS,
            {"model": str(color_model)},
            with_stages=False,
            on_progress=interrupt,
        )
    run = caught.value.run
    assert FEW <= run.counts["answered"] <= run.counts["sent"] < 3000
    assert set(run.stages) == CAMERA_STAGES
    assert set(run.counts) == {"sent", "answered", "missed"}
    assert run.resources["cpu_ms_per_frame"] > 0


def test_a_domain_is_private_unless_the_user_chose_one(monkeypatch, domain):
    with private_domain():
        assert os.environ.get("ROS_DOMAIN_ID") == str(domain)
    monkeypatch.delenv("ROS_DOMAIN_ID")
    with private_domain():
        assert 1 <= int(os.environ.get("ROS_DOMAIN_ID")) <= 100
    assert os.environ.get("ROS_DOMAIN_ID") is None
