# SPDX-License-Identifier: Apache-2.0
"""What a module may return and call itself, in this process; ``tests/faults`` confines it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from perception_node.errors import ConversionError
from tests.import_builders import script, small_module, torch

IMAGE = np.ones((1, 3, 4, 4), np.float32)
PATH = Path("model.zip")


@pytest.fixture
def torchscript():
    torch()
    return import_module("perception_node.engines.importing.export.torchscript")


ANSWERS = {
    "a pair": (lambda x: (x, x), "it returns a tuple; a classifier returns one tensor"),
    "nothing": (lambda _: None, "it returns a NoneType"),
    "an image": (lambda x: x, r"it returns \(1, 3, 4, 4\) torch.float32, not float32 of shape"),
    "a batch": (lambda x: x[0, :, :, 0], r"it returns \(3, 4\) torch.float32, not"),
    "whole numbers": (lambda x: x.mean([2, 3]).long(), "int64, not float32 of shape"),
    "an error": (lambda _: 1 // 0, "PyTorch cannot run it: integer division"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_module_that_is_no_classifier_is_refused(torchscript, answer):
    module, words = ANSWERS[answer]
    with pytest.raises(ConversionError, match=words):
        torchscript.run_module(PATH, module, IMAGE)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (3, 1), (1, 3, 1, 1)])
def test_a_row_of_scores_is_returned(torchscript, shape):
    row = torchscript.run_module(PATH, lambda x: (x.mean([2, 3]) * 2).reshape(shape), IMAGE)
    assert row.tolist() == [[2.0, 2.0, 2.0]]
    assert row.dtype == np.float32


@pytest.mark.filterwarnings("ignore")
def test_a_module_is_exported_with_its_outputs(torchscript, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model").write_bytes(script(small_module()))
    images = np.random.default_rng(0).random((3, 3, 4, 4), np.float32)
    np.save(Path("images.npy"), images)
    Path("images.npy").rename("images")
    facts, blobs = torchscript.perform(PATH, {})
    assert facts["torch"].startswith("2.")
    Path("outputs").write_bytes(blobs["outputs"])
    assert np.load("outputs") == pytest.approx(12 * images.mean((2, 3)))
    assert blobs["model"]


def test_what_pytorch_cannot_load_is_refused(torchscript, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(Path("images.npy"), IMAGE)
    Path("images.npy").rename("images")
    Path("model").write_bytes(b"no archive")
    with pytest.raises(ConversionError, match="PyTorch cannot load it: "):
        torchscript.perform(PATH, {})
