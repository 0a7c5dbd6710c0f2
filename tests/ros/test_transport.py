# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from xml.etree import ElementTree as ET

import pytest

from perception_node.ros import transport
from perception_node.ros.compat import PROFILE_VARIABLES, FastDds
from perception_node.ros.transport import use_large_frames
from perception_node.system.resources import FAST_DDS_PROFILE
from tests.builders import ROOT

pytestmark = pytest.mark.ros
OLD, NEW = PROFILE_VARIABLES.values()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (OLD, NEW):
        monkeypatch.setenv(name, "")  # so that it is restored at the end


@pytest.fixture(params=[FastDds("2.14", OLD), FastDds("3.2", NEW)], ids=["2", "3"])
def fast_dds(request, monkeypatch):
    monkeypatch.setattr(transport, "find_fast_dds", lambda: request.param)
    return request.param


def test_our_profile_is_used_where_nobody_chose_one(fast_dds):
    assert use_large_frames() == str(ROOT / FAST_DDS_PROFILE)
    ET.parse(ROOT / FAST_DDS_PROFILE)
    # Fast DDS 3 warns of the name of Fast DDS 2 whenever it is set.
    assert [name for name in (OLD, NEW) if os.environ[name]] == [fast_dds.variable]


@pytest.mark.parametrize("variable", [OLD, NEW])
def test_the_profile_of_the_user_wins_under_either_name(monkeypatch, fast_dds, variable):
    monkeypatch.setenv(variable, "/mine.xml")
    assert use_large_frames() == "/mine.xml"
    assert os.environ[fast_dds.variable] == "/mine.xml"


def test_another_middleware_needs_none(monkeypatch):
    monkeypatch.setattr(transport, "find_fast_dds", lambda: None)
    assert use_large_frames() == ""
    assert not os.environ[OLD] + os.environ[NEW]
