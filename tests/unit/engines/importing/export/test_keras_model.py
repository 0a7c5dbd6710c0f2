# SPDX-License-Identifier: Apache-2.0
"""Keras models, in this process."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from perception_node.engines.importing.files.filetypes import recognise
from perception_node.errors import ConversionError
from tests.import_builders import torch

pytestmark = pytest.mark.filterwarnings("ignore")
PATH = Path("m.keras")
FIXED = {"size": None}


@pytest.fixture
def step(monkeypatch, tmp_path):
    """Return the child's module, in a folder of its own; it changes the environment."""
    torch()
    for package in ("keras", "onnxscript"):
        if find_spec(package) is None:  # Keras is imported once its backend is chosen
            pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    return import_module("perception_node.engines.importing.export.keras_model")


def save(keras, height=8, width=6, channels=3, *more):
    """Save a model whose scores are the mean of each channel, times 12 and divided by 255."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((height, width, channels)),
            layers.Rescaling(12 / 255),
            *more,
            layers.GlobalAveragePooling2D(),
        ]
    )
    model.save("model.keras")


def run(content: bytes, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def test_keras_exports_its_model_for_one_image(step):
    save(step.keras)
    assert recognise(PATH, Path("model.keras").read_bytes()) == "Keras"
    facts, blobs = step.perform(PATH, FIXED)
    assert facts == {"keras": step.keras.__version__}
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 6, 3)).astype(np.float32)
    assert run(blobs["model"], image) == pytest.approx(12 / 255 * image.mean((1, 2)), abs=1e-4)


def test_a_model_that_takes_any_size_asks_for_one(step):
    save(step.keras, None, None)
    with pytest.raises(ConversionError, match="takes images of any size; give --size HxW"):
        step.perform(PATH, FIXED)
    _, blobs = step.perform(PATH, {"size": [4, 5]})
    assert run(blobs["model"], np.full((1, 4, 5, 3), 255, np.float32)) == pytest.approx(12)


def test_code_in_a_model_is_refused(step):
    save(step.keras, 8, 6, 3, step.keras.layers.Lambda(lambda x: x))
    with pytest.raises(ConversionError, match="it has a Lambda layer or the like"):
        step.perform(PATH, FIXED)


def test_what_is_no_model_of_one_image_is_refused(step):
    keras = step.keras
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save("model.keras")
    with pytest.raises(ConversionError, match=r"its inputs are \[\(None, 5\)\]; one image is"):
        step.perform(PATH, FIXED)
    Path("model.keras").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match="Keras cannot load it: "):
        step.perform(PATH, FIXED)


@pytest.mark.parametrize(
    ("shape", "size", "found"),
    [
        ((None, 8, 6, 3), None, (1, 8, 6, 3)),
        ((None, None, None, 3), (4, 5), (1, 4, 5, 3)),
        ((2, 3, None, None), (4, 5), (1, 3, 4, 5)),
        ((None, 3, 8, 6), None, (1, 3, 8, 6)),
        ((None, 1, None, 6), (4, 5), (1, 1, 4, 6)),
    ],
)
def test_open_axes_are_filled(step, shape, size, found):
    model = type("Model", (), {"inputs": [np.empty(0)]})
    model.inputs = [type("Tensor", (), {"shape": shape})]
    assert step.input_shape(PATH, model, size) == found
