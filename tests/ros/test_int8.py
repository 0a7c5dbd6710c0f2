# SPDX-License-Identifier: Apache-2.0
"""The int8 model for the CPU in the real node, and the gate before it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from perception_node.model.bundle import INT8_ON_CPU
from tests.builders import encode, make_bundle, perception
from tests.gate_builders import INT8, color_pictures, gate, int8_bundle, int8_color_network
from tests.ros.harness import Stream, make_image
from tests.tensorrt_builders import resnet18

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A bundle whose int8 models passed."""
    folder = tmp_path_factory.mktemp("int8")
    return gate(int8_bundle(folder / "colors"), folder).path


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A bundle whose int8 models take red for green, and whose verdict says so."""
    folder = tmp_path_factory.mktemp("failed")
    swapped = int8_color_network(order=(1, 0, 2))
    return gate(int8_bundle(folder / "colors", model=swapped), folder).path


@pytest.mark.parametrize("engine", ["onnxruntime", "auto"])
def test_the_node_runs_the_int8_model(start, peer, gated, engine):
    with start(model=gated, engine=engine, precision="int8") as node:
        result = Stream(peer).classify(make_image("green", 1))
        assert result.results[0].class_id == "1"
        assert "CPUExecutionProvider, int8," in node.log()


def test_a_model_that_failed_is_refused_with_its_numbers(start, peer, failed):
    parameters = {"model": failed, "engine": "onnxruntime", "precision": "int8"}
    with start(**parameters, autostart=False) as node:
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        (line,) = [line for line in node.log_lines() if "configure failed" in line]
        assert "model.int8.cpu.onnx: too inaccurate: top-1 is 66.67 points below float32" in line
        assert "allow_ungated:=true" in line
        assert node.end() == 0


def test_it_runs_if_that_is_wanted_all_the_same(start, peer, failed):
    parameters = {"model": failed, "engine": "onnxruntime", "precision": "int8"}
    with start(**parameters, allow_ungated=True):
        result = Stream(peer).classify(make_image("red", 1))
        assert result.results[0].class_id == "1"  # as wrong as the gate had said


def test_a_bundle_without_an_int8_model_says_how_to_make_one(start, peer):
    with start(precision="int8", autostart=False) as node:
        assert not peer.change("configure")
        assert "perception calibrate" in node.log()
        assert node.end() == 0


@pytest.mark.slow
def test_from_photos_to_the_node(start, peer, tmp_path):
    """Calibrate, evaluate, run: all with the real commands, on a network with convolutions."""
    folder = make_bundle(tmp_path / "resnet", resnet18(classes=3, side=8, width=8))
    images, _ = color_pictures(tmp_path / "calibrate", 30)
    others, _ = color_pictures(tmp_path / "evaluate", 60, seed=1)
    result = perception("calibrate", folder, "--images", images, "--method", "minmax")
    assert result.returncode == 0, result.stderr
    result = perception("evaluate", folder, "--images", others, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    models = json.loads(result.stdout)["models"]
    assert list(models) == ["model.onnx", "model.fp16.onnx", INT8, INT8_ON_CPU]
    picture = make_image("blue", 1)
    expected = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    (tmp_path / "blue.png").write_bytes(encode(expected, ".png"))
    arguments = ("--model", folder, "--precision", "int8", "--engine", "onnxruntime", "--json")
    result = perception("classify", tmp_path / "blue.png", *arguments)
    (first, *_) = json.loads(result.stdout)["results"]
    with start(model=folder, engine="onnxruntime", precision="int8"):
        seen = Stream(peer).classify(picture).results[0]
        assert (seen.class_id, round(seen.score, 6)) == (first["class_id"], first["score"])
