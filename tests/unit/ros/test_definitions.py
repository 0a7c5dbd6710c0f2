# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from rosbags.typesys import get_types_from_msg

from perception_node.ros.definitions import DEFINITIONS, make_typestore
from tests.builders import ROOT


def test_definitions_are_those_of_the_package_that_is_built():
    files = sorted((ROOT / "interfaces/vision_msgs/msg").glob("*.msg"))
    assert {f"vision_msgs/msg/{file.stem}" for file in files} == set(DEFINITIONS)
    for file in files:
        name = f"vision_msgs/msg/{file.stem}"
        ours = get_types_from_msg(DEFINITIONS[name], name)
        assert get_types_from_msg(file.read_text(), name) == ours


def test_a_typestore_may_be_made_again():
    for _ in range(2):
        store = make_typestore()
        assert "string class_id" in store.generate_msgdef("vision_msgs/msg/Classification")[0]
