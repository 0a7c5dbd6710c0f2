# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from perception_node.system.json_schema import describe_problem, find_problem

RULES = {
    "type": "object",
    "properties": {
        "size": {"type": "object", "properties": {"width": {"minimum": 1}}},
        "how": {"anyOf": [{"type": "integer"}, {"enum": ["all"]}]},
    },
}


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "a.schema.json"
    path.write_text(json.dumps(RULES))
    return path


def test_what_fits_has_no_problem(schema):
    assert find_problem({"size": {"width": 1}}, schema) is None
    assert describe_problem({"size": {"width": 1}}, schema) == ""


def test_a_problem_is_one_line_with_its_place(schema):
    found = describe_problem({"size": {"width": 0}}, schema)
    assert found == "size.width: 0 is less than the minimum of 1"
    assert describe_problem([], schema).startswith("the whole file: [] is not of type")
    found = describe_problem({"size": "a\nb" * 1000}, schema)
    assert found.isprintable()
    assert len(found) <= 200


def test_alternatives_are_one_problem(schema):
    assert find_problem({"how": "none"}, schema).validator == "anyOf"
