# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.engines.tensorrt.operators import NEWEST_OPSET, SINCE, TARGETS, readability
from perception_node.model.onnx_file import look_through
from tests.builders import ROOT
from tests.variant_builders import node, variant


def problems(target, opset, *operators):
    before = [node(name, ["image"], [f"n{n}"]) for n, name in enumerate(operators)]
    return readability(look_through(variant(before=before, opset=opset)), target).problems


def test_the_model_of_the_package_can_be_read_by_all():
    content = look_through((ROOT / "models/efficientnet_lite0/model.onnx").read_bytes())
    assert [readability(content, target).problems for target in TARGETS] == [[]] * len(TARGETS)


@pytest.mark.parametrize(
    ("target", "opset", "readable"),
    [
        ("tensorrt-8.6", 17, True),
        ("tensorrt-8.6", 18, False),
        ("tensorrt-10.3", 20, True),
        ("tensorrt-10.3", 21, False),
        ("tensorrt-10.15", 24, True),
        ("tensorrt-10.3", 8, False),
    ],
)
def test_opsets_have_bounds(target, opset, readable):
    found = problems(target, opset)
    assert bool(found) is not readable
    if found:
        assert found[0].startswith(f"opset {opset} is not among 9 to ")


def test_operators_come_with_versions():
    assert problems("tensorrt-8.6", 17, "Gelu", "Gelu", "Det") == [
        "it has no Det (1), Gelu (2); export the model without, or with a lower opset"
    ]
    assert problems("tensorrt-10.3", 20, "Gelu", "DeformConv") == []
    assert "STFT" in problems("tensorrt-10.3", 20, "STFT")[0]
    assert problems("tensorrt-10.15", 24, "STFT", "Attention", "RMSNormalization") == []


def test_no_operator_is_added_twice():
    names = [name for each in SINCE.values() for name in each.split()]
    assert len(names) == len(set(names)) > 140
    assert max(NEWEST_OPSET) >= max(SINCE)
