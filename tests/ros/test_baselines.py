# SPDX-License-Identifier: Apache-2.0
"""The nodes that ours is compared with do the same work, and the start of ours is timed."""

from __future__ import annotations

import signal

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from perception_node.bench.baselines import naive
from perception_node.bench.camera.camera_messages import encode
from perception_node.bench.levels.startup_level import measure_start, read_stages
from perception_node.config.sections import ModelConfig
from perception_node.engines.selection import load_pipeline
from perception_node.errors import EnvironmentLacks
from perception_node.vision.frame import Unpacker
from perception_node.wire.bags import open_bag
from perception_node.wire.images import ImageReader
from tests.builders import SAMPLE_BAG, smooth
from tests.ros.harness import Stream, make_compressed, make_image, serialize, stamp_of

pytestmark = pytest.mark.ros
RAW, COMPRESSED = "/camera/image_raw", "/camera/image_raw/compressed"
REMAP = ("-r", f"image:={RAW}")
STAMP_NS = 1_234_000_000_567
RED = "0"


def program(name):
    return ("-m", f"perception_node.bench.baselines.{name}")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("name", ["naive", "floor"])
def test_a_baseline_answers_with_the_header_of_the_image(name, transport, start, peer, jpeg):
    topic, kind, message = RAW, Image, make_image("red", STAMP_NS)
    if transport == "compressed":
        topic, kind, message = COMPRESSED, CompressedImage, make_compressed(jpeg(), STAMP_NS)
    with start(*REMAP, program=program(name), image_transport=transport) as node:
        answer = Stream(peer, topic=topic, kind=kind).ask(message)
        assert node.end(signal.SIGTERM) == 0
        assert "Traceback" not in node.log()
    assert answer.header.frame_id == "camera_optical_frame"
    if name == "floor":
        assert len(answer.results) == 5
    else:
        assert answer.results[0].class_id == RED
        assert sum(result.score for result in answer.results) == pytest.approx(1.0, abs=1e-5)


def test_the_naive_node_says_the_same_of_the_sample_photos(start, peer):
    with open_bag(SAMPLE_BAG) as bag:
        messages = [message.data for message in bag.messages([COMPRESSED])][::10]
    reader = ImageReader("compressed", 1 << 24, 1 << 24)
    expected = {}
    with load_pipeline(ModelConfig(threads=1)) as pipeline:
        for message in messages:
            prediction = pipeline.run(reader.read(message), top_k=1, threshold=0.0)
            expected[prediction.stamp_ns] = str(prediction.hypotheses[0].class_id)
    settings = {"model": "efficientnet_lite0", "image_transport": "compressed", "threads": 1}
    with start(*REMAP, program=program("naive"), **settings):
        stream = Stream(peer, topic=COMPRESSED, kind=CompressedImage)
        answers = [stream.ask(deserialize_message(each, CompressedImage)) for each in messages]
    assert len(expected) >= 10
    assert {stamp_of(a): a.results[0].class_id for a in answers} == expected


@pytest.mark.parametrize("encoding", naive.TO_RGB)
def test_the_naive_node_converts_as_ours_does(encoding):
    picture = smooth(48, 64)
    rows = encode(np.ascontiguousarray(picture[..., ::-1]), encoding)
    step = rows.shape[1] + 8  # padded, as some drivers do
    padded = np.zeros((rows.shape[0], step), np.uint8)
    padded[:, : rows.shape[1]] = rows
    message = make_image(size=(64, 48), encoding=encoding, step=step)
    message.data = message.data[:0]
    message.data.frombytes(padded.tobytes())
    frame = ImageReader("raw", 1 << 24, 16).read(serialize(message))
    pixels, order = Unpacker().unpack(frame)
    code = getattr(cv2, f"COLOR_{order}2RGB", None)
    expected = pixels if code is None else cv2.cvtColor(pixels, code)
    np.testing.assert_array_equal(naive.to_rgb(message), expected)


LOG = [
    "noise of the middleware",
    "[INFO] [1700000000.300000000] [perception]: imported",
    "[WARN] [1700000000.350000000] [perception]: model warning",
    "[INFO] [1700000001.000000001] [perception]: model colors (/m) runs on ONNX Runtime",
    "\x1b[0m[INFO] [1700000001.100000001] [perception]: active: waiting for images on /image",
]


def test_the_stages_of_a_start_are_read_from_the_log():
    assert read_stages(LOG, 1_700_000_000_000_000_000) == {
        "import": 300_000_000,
        "configure": 700_000_001,
        "activate": 100_000_000,
        "start to active": 1_100_000_001,
    }


@pytest.mark.parametrize("missing", [1, 3, 4])
def test_a_line_that_the_log_lacks_is_one_line(missing):
    log = [line for number, line in enumerate(LOG) if number != missing]
    with pytest.raises(EnvironmentLacks, match="has no line") as caught:
        read_stages(log, 0)
    assert "\n" not in str(caught.value)


def test_a_start_is_timed(domain, color_model, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    run = measure_start({"model": str(color_model), "threads": 1, "engine": "onnxruntime"})
    p50_ms = {name: durations.summarize().p50_ms for name, durations in run.stages.items()}
    assert {len(durations) for durations in run.stages.values()} == {1}
    parts = p50_ms["import"] + p50_ms["configure"] + p50_ms["activate"]
    assert parts == pytest.approx(p50_ms["start to active"], rel=0.01)
    # A result may be out before the line that says "active", but not before there is a model.
    assert p50_ms["start to first result"] > p50_ms["import"] + p50_ms["configure"]
    assert p50_ms["first inference"] > 0
    assert p50_ms["steady inference"] > 0
    assert run.subject == "startup"
    assert run.resources["memory_mib"] > 10


def test_a_node_that_does_not_start_is_one_line(domain, color_model, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    parameters = {"model": str(color_model), "threads": 1}
    with pytest.raises(EnvironmentLacks, match=r"ended with code 1: .*use_sim_time") as caught:
        measure_start({**parameters, "use_sim_time": "often"})
    assert "\n" not in str(caught.value)
