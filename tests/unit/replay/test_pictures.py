# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from base64 import b64decode

import cv2
import numpy as np
import pytest

from perception_node.replay.pictures import read_pictures
from perception_node.wire.bags import open_bag
from perception_node.wire.images import RAW_TYPE
from tests.builders import START_NS, image_message, write_bag


@pytest.mark.parametrize(("encoding", "kind"), [("mono16", "<u2"), ("32FC1", "<f4")])
def test_deep_images_can_be_seen(tmp_path, encoding, kind):
    levels = np.repeat([1000, 1040], 16).astype(kind)[None].repeat(24, axis=0)
    message = image_message(levels.view(np.uint8), encoding, width=32)
    path = write_bag(tmp_path / "bag", [("/thermal", RAW_TYPE, START_NS, message)])
    with open_bag(path) as bag:
        pictures = read_pictures(bag.messages(["/thermal"]), {1})
    data = b64decode(pictures[1].partition("base64,")[2])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture[:, 2:12].max() < 20
    assert picture[:, 20:30].min() > 235
