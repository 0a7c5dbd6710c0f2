# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from perception_node.engines.importing.graph import running
from perception_node.engines.importing.graph.opsets import raised
from perception_node.engines.importing.graph.running import newest_opset, run, tolerance
from perception_node.engines.onnx_graph import is_sorted, opset_version, sort_nodes
from perception_node.errors import ConversionError
from tests.variant_builders import float16, shuffled, variant

SCORES = np.array([[0.0, 2.0], [5.0, 30.0]], np.float32)
IMAGE = {"image": np.zeros((1, 3, 12, 16), np.float32)}


@pytest.mark.parametrize(
    ("content", "scores", "limit"),
    [
        (variant(), SCORES, 30e-4),
        (variant(), SCORES / 100, 1e-4),
        (float16(), SCORES, 0.3),
        (float16(), SCORES / 100, 1e-2),
    ],
)
def test_the_tolerance_follows_range_and_type(content, scores, limit):
    assert tolerance(onnx.load_model_from_string(content), scores) == pytest.approx(limit)


def test_the_newest_opset_is_found_by_trying():
    newest = newest_opset()
    assert 17 <= newest <= onnx.defs.onnx_opset_version()
    assert run(Path("x"), onnx.load_model_from_string(variant(opset=newest)), "logits", [IMAGE])


def test_an_opset_that_onnx_runtime_does_not_read_is_named(monkeypatch):
    monkeypatch.setattr(running, "newest_opset", lambda: 16)
    monkeypatch.setattr(running, "open_session", lambda *_, **__: 1 / 0)
    words = r"x: its opset 17 is newer than 16, the newest that ONNX Runtime \d.* opset_version=17"
    with pytest.raises(ConversionError, match=words):
        run(Path("x"), onnx.load_model_from_string(variant()), "logits", [IMAGE])


def test_old_opsets_are_raised_and_others_left():
    old = onnx.load_model_from_string(variant(opset=11))
    assert opset_version(raised(old)) == 17
    assert opset_version(old) == 11
    assert raised(onnx.load_model_from_string(variant(opset=13))) is None


def test_a_model_that_the_converter_does_not_know_is_left(monkeypatch):
    old = onnx.load_model_from_string(variant(opset=11))
    old.graph.node[0].op_type = "Unknown"
    assert raised(old) is None


def test_nodes_are_sorted_only_if_they_must_be():
    whole = onnx.load_model_from_string(variant()).graph
    mixed = onnx.load_model_from_string(shuffled(variant())).graph
    assert is_sorted(whole)
    assert not is_sorted(mixed)
    sort_nodes(mixed)
    assert [node.op_type for node in mixed.node] == [node.op_type for node in whole.node]
