# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests that talk DDS; each folder's conftest.py takes what it needs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from perception_node.ros.compat import (
    DISCOVERY_RANGE,
    PROFILE_VARIABLES,
    keep_discovery_local,
)
from perception_node.ros.transport import use_large_frames
from tests.builders import color_network, make_bundle
from tests.ros.harness import COLORS, Peer, claim_domain, local_node, start_node


@pytest.fixture(autouse=True, scope="module")
def _environment(tmp_path_factory):
    """Stay on this machine, check message fields, and carry camera-sized images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DISCOVERY_RANGE, "LOCALHOST")
        keep_discovery_local()
        patch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("log")))
        patch.setenv("RCUTILS_COLORIZED_OUTPUT", "0")
        for name in PROFILE_VARIABLES.values():
            patch.setenv(name, "")  # so that it is restored at the end
        use_large_frames()
        yield


@pytest.fixture
def domain():
    """A ROS domain for one test alone."""
    with claim_domain() as number:
        yield number


@pytest.fixture
def peer(domain):
    """The other side, on the test's domain."""
    with Peer(domain) as other:
        yield other


@pytest.fixture(scope="session")
def color_model(tmp_path_factory):
    """A model that tells red, green and blue: its logits are 6 times the mean of each channel."""
    return make_bundle(tmp_path_factory.mktemp("model") / "colors", color_network(gain=6.0))


@pytest.fixture
def start(domain, color_model):
    """Return a function that describes the node's process on the test's domain."""

    def describe(*arguments, program=("-m", "perception_node.ros.main"), **parameters):
        defaults = {"model": color_model, "autostart": True, "diagnostics_period_s": 0.1}
        return start_node(domain, {**defaults, **parameters}, arguments, program)

    return describe


@pytest.fixture
def local(domain, color_model):
    """The node in this process, on the test's domain, not configured yet."""
    with local_node(domain, model=str(color_model), diagnostics_period_s=0.1) as node:
        yield node


@pytest.fixture(scope="session")
def jpeg():
    """Return a function that makes a JPEG of one colour."""

    def encode(color="red", size=(32, 24)) -> bytes:
        width, height = size
        pixels = np.full((height, width, 3), COLORS[color][::-1], np.uint8)
        return cv2.imencode(".jpg", pixels)[1].tobytes()

    return encode
