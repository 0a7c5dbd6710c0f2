# SPDX-License-Identifier: Apache-2.0
"""What is refused before a model is run; ``tests/faults`` does it in the confined process."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from perception_node.engines.importing.graph.findings import Findings
from perception_node.engines.importing.graph.inspection import inspect
from perception_node.engines.importing.graph.loading import load_model
from perception_node.errors import ConversionError
from tests.hostile_builders import REFUSED, functions
from tests.import_builders import scores_network

PATH = Path("model.onnx")


@pytest.mark.parametrize("attack", REFUSED)
def test_a_hostile_graph_is_refused_with_the_reason(attack):
    make, words = REFUSED[attack]
    with pytest.raises(ConversionError, match=words) as caught:
        load_model(PATH, make(), [])
    assert str(caught.value).startswith("model.onnx: ")
    assert "\n" not in str(caught.value)


def test_functions_are_written_out():
    model = load_model(PATH, functions(3), notes := [])
    assert not model.functions
    assert notes == ["functions written out"]
    assert [node.op_type for node in model.graph.node] == ["ReduceMean", *["Sin"] * 8]


def test_facts_of_a_plain_model():
    facts = inspect(
        PATH, load_model(PATH, scores_network("NHWC", "uint8", batch="n"), []), {}, Findings()
    )
    assert (facts.input, facts.output) == ("picture", "scores")
    assert (facts.layout, facts.element) == ("NHWC", "uint8")
    assert (facts.height, facts.width) == (6, 8)
    assert facts.labels is None


@pytest.mark.parametrize(
    ("shape", "layout"),
    [([1, 3, 3, 3], "NCHW"), ([None, 3, 9, 4], "NCHW"), ([3, 5, 3], "CHW"), ([5, 4, 4], "HWCA")],
)
def test_where_both_ends_could_be_channels_they_come_first(shape, layout):
    model = onnx.load_model_from_string(scores_network())
    axes = model.graph.input[0].type.tensor_type.shape
    axes.ClearField("dim")
    for length in shape:
        axes.dim.add(**({} if length is None else {"dim_value": length}))
    assert inspect(PATH, model, {"layout": layout}, Findings()).layout == layout
    if layout != "HWCA":  # four channels are not guessed to be RGBA
        assert inspect(PATH, model, {}, Findings()).layout == layout
