# SPDX-License-Identifier: Apache-2.0
"""The same image over HTTP and over DDS: the same classes, the same scores to the last bit."""

from __future__ import annotations

from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import ModelConfig
from perception_node.engines.selection import load_pipeline
from perception_node.serving.app import create_app
from perception_node.serving.classification import ClassificationQueue
from perception_node.serving.settings import ServerSettings
from perception_node.wire.bags import open_bag
from perception_node.wire.images import CdrReader, read_header
from tests.builders import SAMPLE_BAG, encode, quadrants, smooth
from tests.ros.harness import Stream, make_compressed, make_image

pytestmark = pytest.mark.ros
COMPRESSED_TOPIC = "/camera/image_raw/compressed"
FRAMES_PER_PHOTO = 25
DEFAULT_MODEL = "efficientnet_lite0"


@pytest.fixture(params=[DEFAULT_MODEL, "colors"])
def model(request, color_model):
    return request.param if request.param == DEFAULT_MODEL else color_model


def sample_photos():
    """Return the JPEG of each photo of the sample bag."""
    with open_bag(SAMPLE_BAG) as bag:
        messages = list(bag.messages([COMPRESSED_TOPIC]))[::FRAMES_PER_PHOTO]
    photos = []
    for message in messages:
        cdr = CdrReader(message.data)
        read_header(cdr)
        cdr.string()
        photos.append(bytes(cdr.octets()))
    return photos


def make_pictures():
    """Return JPEGs and PNGs of many kinds."""
    rgb = smooth(480, 640, seed=3)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    alpha = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
    return [
        encode(rgb),
        encode(rgb, ".png"),
        encode(smooth(1080, 1920, seed=4)),  # decoded at a fraction of its size
        encode(smooth(1081, 1919, seed=5), ".png"),
        encode(smooth(333, 77, seed=6), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode(quadrants(9, 7), ".png"),
        cv2.imencode(".jpg", grey)[1].tobytes(),
        cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes(),
        cv2.imencode(".png", alpha)[1].tobytes(),
    ]


@contextmanager
def http(model):
    """Yield a function that returns class ids and scores of ``POST /predict``."""
    config, settings = (
        NodeConfig(model=ModelConfig(model=str(model))),
        ServerSettings(deadline_ms=60_000),
    )
    with (
        load_pipeline(config.model) as pipeline,
        ClassificationQueue(pipeline, config, settings) as queue,
    ):
        client = create_app(queue, settings).test_client()

        def predict(data):
            response = client.post("/predict", data=data, content_type="application/octet-stream")
            assert response.status_code == 200, response.text
            return [(one["class_id"], one["score"]) for one in response.json["results"]]

        yield predict


def to_pairs(message):
    return [(one.class_id, one.score) for one in message.results]


def test_a_file_is_classified_alike_over_http_and_over_dds(model, start, peer):
    pictures = [*sample_photos(), *make_pictures()]
    assert len(pictures) > 12
    with start(model=model, image_transport="compressed"), http(model) as predict:
        stream = Stream(peer, topic="image/compressed", kind=CompressedImage)
        answers = [
            stream.classify(make_compressed(data, stamp_ns))
            for stamp_ns, data in enumerate(pictures, start=1)
        ]
        for answer, data in zip(answers, pictures, strict=True):
            assert to_pairs(answer) == predict(data)
    assert len({tuple(to_pairs(answer)) for answer in answers}) > len(pictures) / 2


def test_a_png_is_classified_like_the_pixels_that_a_camera_sends(model, start, peer):
    # Small enough for each model not to be decoded at a fraction of their size.
    size = (447, 600) if model == DEFAULT_MODEL else (15, 20)
    pictures = [smooth(*size, seed) for seed in range(4)]
    with start(model=model, image_transport="raw"), http(model) as predict:
        stream = Stream(peer)
        for stamp_ns, rgb in enumerate(pictures, start=1):
            image = make_image(stamp_ns=stamp_ns, size=rgb.shape[1::-1], encoding="rgb8")
            image.data[:] = type(image.data)("B", rgb.tobytes())
            assert to_pairs(stream.classify(image)) == predict(encode(rgb, ".png"))
