# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pytest

from perception_node.config.sections import EngineChoice, ModelConfig
from perception_node.engines.registry import ENGINES, EngineKind, from_module
from perception_node.engines.selection import load_pipeline
from perception_node.vision.frame import Frame
from tests.builders import GREEN, RED, solid
from tests.engine_builders import wait_for

# A folder as one in engines/: it tells colours by the mean of each channel.
TOY = """
import numpy as np

from perception_node.engines.base import Engine
from perception_node.errors import EnvironmentLacks

made = []


class ToyEngine(Engine):
    description = "Toy 1.0"

    def __init__(self, bundle):
        size, classes = bundle.manifest.input, bundle.manifest.output.classes
        self.input = np.zeros((1, 3, size.height, size.width), np.float32)
        self.output = np.zeros((1, classes), np.float32)
        made.append(self)

    def infer(self):
        self.output[0] = self.input[0].mean(axis=(1, 2))

    def close(self):
        made.remove(self)


def load_engine(order):
    if order.config.threads == 7:
        raise EnvironmentLacks("it has no seven threads")
    return ToyEngine(order.bundle)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Add an engine: one folder and one line."""
    folder = tmp_path / "toy_engine"
    folder.mkdir()
    (folder / "__init__.py").write_text(TOY)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    kind = EngineKind("toy", "Toy", from_module("toy_engine"))
    ENGINES.insert(0, kind)
    yield
    ENGINES.remove(kind)


def label(pipeline, color):
    frame = Frame.from_bgr(np.ascontiguousarray(solid(color)[..., ::-1]))
    return pipeline.run(frame, top_k=1, threshold=0.0).hypotheses[0].label


@pytest.mark.usefixtures("toy")
def test_an_engine_is_one_folder_and_one_line(color_bundle):
    with load_pipeline(ModelConfig(model=str(color_bundle))) as pipeline:
        assert pipeline.description == "Toy 1.0"
        assert pipeline.reason == "engine is auto; ONNX Runtime stands by"
        assert [label(pipeline, color) for color in (RED, GREEN)] == ["red", "green"]
        pipeline.drop_engine(pipeline.engine, RuntimeError("lost"))
        assert "ONNX Runtime" in pipeline.description
        assert label(pipeline, GREEN) == "green"
    import toy_engine

    wait_for(lambda: not toy_engine.made)  # each is freed by its own thread


@pytest.mark.usefixtures("toy")
def test_where_it_cannot_be_had_auto_takes_the_next(color_bundle):
    with load_pipeline(ModelConfig(model=str(color_bundle), threads=7)) as pipeline:
        first, second = pipeline.reason.split(", no TensorRT: ")
        assert first == "engine is auto, no Toy: it has no seven threads"
        assert second
        assert "ONNX Runtime" in pipeline.description


@pytest.mark.usefixtures("toy")
def test_it_is_not_looked_for_where_another_is_asked_for(color_bundle):
    with load_pipeline(ModelConfig(model=str(color_bundle), engine="onnxruntime")) as pipeline:
        assert pipeline.reason == "engine is onnxruntime"


def test_all_that_users_can_ask_for_is_there():
    assert set(get_args(EngineChoice)) <= {"auto", *(one.name for one in ENGINES)}
