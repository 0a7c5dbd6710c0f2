# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests share their builders. The `pythonpath` of pyproject.toml is unknown to pytest 6 of Humble.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perception_node.system.process import use_one_opencv_thread
from tests.builders import make_bundle

# A shell that runs `make test` in the background has it ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
use_one_opencv_thread()  # as in the node; OpenCV would start threads in the middle of a test
settings.register_profile(
    "perception",
    deadline=None,  # the machines that run this are shared
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "nightly",  # pytest --hypothesis-profile nightly --timeout 0
    settings.get_profile("perception"),
    max_examples=10_000,
)
settings.register_profile(
    "emulated",  # make test-arm64: one instruction costs about twenty
    settings.get_profile("perception"),
    max_examples=5,
)
settings.load_profile("perception")


@pytest.fixture(autouse=True)
def _signal_handlers():
    """Put back what a command has set for its process, which is here that of all tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def unmeasured(monkeypatch):
    """Let processes run without coverage, whose objects and modules would be taken for theirs."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def color_bundle(tmp_path_factory):
    """A bundle that tells red, green and blue apart; tests must not change it."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "colors")
