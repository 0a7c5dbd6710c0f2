# SPDX-License-Identifier: Apache-2.0
"""A pytest fixture that puts bags and golden files under test; see ``docs/replay.md``.

pytest loads this file in every project of the machine, so nothing is imported before the fixture
is used. The replay runs in a process of its own: threads, ROS and its domain are not the test's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from perception_node.replay.fixture import Replay

UPDATE_OPTION = "--perception-update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes golden files."""
    parser.getgroup("perception").addoption(
        UPDATE_OPTION,
        action="store_true",
        help="perception_replay writes its golden files instead of comparing with them",
    )


@pytest.fixture
def perception_replay(request: pytest.FixtureRequest) -> Replay:
    """Return a function that replays a bag and compares it with a golden file; see ``Replay``."""
    from pathlib import Path  # noqa: PLC0415

    from perception_node.replay.fixture import Replay  # noqa: PLC0415

    is_updated = bool(request.config.getoption(UPDATE_OPTION))
    return Replay(Path(str(request.node.fspath)).parent, is_updated=is_updated)
