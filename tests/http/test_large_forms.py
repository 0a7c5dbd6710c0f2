# SPDX-License-Identifier: Apache-2.0
"""Photos are larger than what a form's parser reads at a time."""

from __future__ import annotations

import numpy as np
import pytest

from perception_node.serving.settings import ServerSettings
from tests.builders import encode
from tests.http_builders import ask, form, serving


@pytest.fixture(scope="module")
def server(color_bundle):
    with serving(color_bundle, ServerSettings(max_body_mib=4)) as served:
        yield served


@pytest.mark.parametrize("side", [150, 300, 600, 1200])
@pytest.mark.parametrize("boundary", ["x", "-" * 70])
def test_a_form_with_a_photo_is_answered_as_the_photo_alone(server, side, boundary):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    photo = encode(noise)
    body, content_type = form(("a.jpg", photo), boundary=boundary)
    answer = ask(server.url, "/predict", "POST", body, content_type=content_type)
    alone = ask(server.url, "/predict", "POST", photo, content_type="image/jpeg")
    assert (answer.status, alone.status) == (200, 200), answer.body
    assert answer.json["results"] == alone.json["results"]
